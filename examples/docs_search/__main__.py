"""Serve the documentation site with kameleon as its search.

    make docs
    python -m examples.docs_search

Each section of the built pages is a record, whose id is its address. What has changed since the last start is indexed,
and the rest is left as it is. The site is served at /, kameleon's API below /kameleon; `search.js`, which is part of the
site, puts a search box on each page where it finds that API. On a server of files alone the theme's own search stays.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

import kameleon
from kameleon import RecordStore, SearchEngine, files
from kameleon.server import app

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"
ENTITY = "Section"
LEFT_OUT = ("*.md", "*.txt", "404.html", "examples", "assets")
"""Files of the site that are no pages; those of Markdown are the pages once more."""
MOST = 100_000
"""Bounds the sections whose ids are read. Chosen, not measured."""


def sections(site: Path) -> Iterator[dict[str, Any]]:
    """A record for each section that has a heading; the sign of a link to a heading is no text."""
    for record in files.records(site, by_section=True, exclude=LEFT_OUT):
        if "#" in record["id"]:
            title, *above = (text.replace("¶", "").strip() for text in (record["title"], *record["headings"][1:]))
            address = record["id"].replace("index.html", "")
            yield {"id": address, "title": title, "headings": above, "text": record.get("text", "")}


def update(search: SearchEngine, site: Path) -> None:
    """Index what is new or changed, and remove the sections that are gone."""
    records = RecordStore(search)
    if ENTITY not in (entity.name for entity in records.entities()):
        records.create_entity(ENTITY, search={"title": 4, "headings": 2, "text": 1})
    now = list(sections(site))
    records.insert(ENTITY, now, on_conflict="replace")
    gone = {record.id for record in records.list(ENTITY, limit=MOST)} - {record["id"] for record in now}
    records.delete(ENTITY, sorted(gone))


def application(search: SearchEngine, site: Path, hosts: Sequence[str] = ()) -> Starlette:
    """The site, and below /kameleon what its search box calls; nothing can be written."""
    api = Mount("/kameleon", app(search, page=False, hosts=hosts))
    return Starlette(routes=[api, Mount("/", StaticFiles(directory=site, html=True))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--database", default=f"sqlite:///{ROOT / 'build' / 'docs-search.db'}", help="an URL")
    parser.add_argument("--site", type=Path, default=SITE, help="the folder of the site")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--allowed-host", action="append", default=[], help="a name that browsers use; repeatable")
    given = parser.parse_args()
    if not (given.site / "index.html").is_file():
        parser.error(f"{given.site} has no index.html: run `make docs` first")
    search = SearchEngine(kameleon.create_engine(given.database), embedding_provider="static")
    update(search, given.site)
    uvicorn.run(application(search, given.site, given.allowed_host), port=given.port)


if __name__ == "__main__":
    main()
