"""Build the documentation site of this checkout into `build/site`: `make docs`.

Pages keep the paths that they have in the repository, so that the links between them hold on the site, too. The
reference is made of docstrings: REFERENCE names what is public. Beside the pages there are their Markdown, `llms.txt`,
which lists it, and `llms-full.txt`, which is all of it. Any warning is an error.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIGURATION = "mkdocs.yml"
PAGES = Path("build") / "pages"
SITE = Path("build") / "site"
COPIED = (
    "*.md",
    "LICENSE",
    "docs/*.md",
    "docs/images/*",
    "examples/*",
    "examples/docs_search/search.js",
    "kameleon/embeddings/*/README.md",
    "stress/README.md",
    "stress/figures/*",
)
"""The pages, and what they link to."""
REFERENCE: Mapping[str, tuple[str, Sequence[str]]] = {
    "engine": (
        "SearchEngine",
        (
            "kameleon.SearchEngine",
            "kameleon.create_engine",
            "kameleon.create_async_engine",
            "kameleon.set_up_engine",
            "kameleon.ALL_TENANTS",
        ),
    ),
    "searching": (
        "Searches and hits",
        (
            "kameleon.search.options.SearchOptions",
            "kameleon.SearchResults",
            "kameleon.SearchResult",
            "kameleon.Snippet",
            "kameleon.Passage",
            "kameleon.boosts.number",
            "kameleon.boosts.recency",
            "kameleon.boosts.when",
            "kameleon.boosts.read_boosts",
            "kameleon.search.fusion.Leg",
        ),
    ),
    "namespaces": (
        "Namespaces of SearchEngine",
        (
            "kameleon.administration.Administration",
            "kameleon.administration.CacheAdministration",
            "kameleon.existing_tables.ExistingTables",
            "kameleon.judgements.Judgements",
            "kameleon.query_rules.QueryRules",
            "kameleon.reindex.generations.Reindexing",
            "kameleon.synonyms.Synonyms",
            "kameleon.tenants.ForTenant",
        ),
    ),
    "records": (
        "Records and files",
        (
            "kameleon.RecordStore",
            "kameleon.records.values.Record",
            "kameleon.records.values.InsertReport",
            "kameleon.files.records",
            "kameleon.files.items",
            "kameleon.files.ReadOptions",
            "kameleon.files.vectors.split_embeddings",
            "kameleon.exporting.Export",
            "kameleon.importers.import_records",
            "kameleon.importers.chroma.ChromaCollection",
            "kameleon.importers.lancedb.LanceTable",
            "kameleon.importers.pgvector.VectorTable",
            "kameleon.entities.describe",
            "kameleon.entities.named",
            "kameleon.entities.kind_of",
            "kameleon.entities.count_values",
        ),
    ),
    "declaring": (
        "Mapped classes",
        ("kameleon.searchable", "kameleon.Field", "kameleon.alembic", "kameleon.testing"),
    ),
    "embeddings": (
        "Providers of embeddings",
        (
            "kameleon.embeddings.get_provider",
            "kameleon.embeddings.EmbeddingProvider",
            "kameleon.embeddings.EmbeddingResult",
            "kameleon.embeddings.StaticProvider",
            "kameleon.embeddings.FastEmbedProvider",
            "kameleon.embeddings.FastEmbedReranker",
            "kameleon.embeddings.OpenAIProvider",
            "kameleon.embeddings.CallableProvider",
            "kameleon.embeddings.GivenVectors",
            "kameleon.embeddings.EmbeddingService",
            "kameleon.embeddings.EmbeddingCache",
            "kameleon.embeddings.EmbeddingReport",
        ),
    ),
    "operating": (
        "Operating it",
        (
            "kameleon.Worker",
            "kameleon.rebuild",
            "kameleon.IndexReport",
            "kameleon.IndexStatus",
            "kameleon.reindex.request.ReindexOptions",
            "kameleon.reindex.gate.Gate",
            "kameleon.doctor.examine",
            "kameleon.evaluation.evaluate",
            "kameleon.evaluation.compare",
            "kameleon.telemetry.instrument",
            "kameleon.telemetry.uninstrument",
            "kameleon.telemetry.observe",
            "kameleon.telemetry.Observer",
            "kameleon.server.app",
            "kameleon.server.tenant_of_header",
        ),
    ),
    "errors": ("Errors", ("kameleon.errors",)),
}
"""The title of each page of the reference, and the names that it documents."""


def main() -> None:
    pages = build(ROOT)
    print(f"{len(pages) + len(REFERENCE)} pages: {ROOT / SITE / 'index.html'}")


def build(folder: Path) -> list[Path]:
    """Build `build/site` of a folder; the pages that people wrote. Raises SystemExit if there is a warning."""
    if folder != ROOT:
        shutil.copyfile(ROOT / CONFIGURATION, folder / CONFIGURATION)
    copy_pages(folder / PAGES)
    shutil.rmtree(folder / SITE, ignore_errors=True)
    command = (sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file")
    if status := subprocess.run([*command, folder / CONFIGURATION], cwd=ROOT, check=False).returncode:
        raise SystemExit(status)
    pages = [Path(name) for name in navigation() if not name.startswith("reference/")]
    for page in pages:
        target = folder / SITE / page
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / page, target)
    texts = [(ROOT / page).read_text("utf-8").strip() for page in pages]
    (folder / SITE / "llms.txt").write_text(contents(pages), "utf-8")
    (folder / SITE / "llms-full.txt").write_text("\n\n".join([*texts, ""]), "utf-8")
    return pages


def copy_pages(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for path in (path for pattern in COPIED for path in ROOT.glob(pattern) if path.is_file()):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (folder / "reference").mkdir()
    for name, (title, documented) in REFERENCE.items():
        text = "\n\n".join([f"# {title}", *(f"::: {path}" for path in documented)])
        (folder / "reference" / f"{name}.md").write_text(f"{text}\n", "utf-8")


def navigation() -> list[str]:
    """The pages of the site, in their order."""
    return re.findall(r"^ +- (\S+\.md)$", (ROOT / CONFIGURATION).read_text("utf-8"), re.MULTILINE)


def contents(pages: Sequence[Path]) -> str:
    """`llms.txt` as https://llmstxt.org describes it: the Markdown of each page, with the task that the README has."""
    tasks = {
        path: task
        for task, cell in re.findall(r"^\| (.+?) \| (\[.*) \|$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
        for path in re.findall(r"\]\(([^)]+)\)", cell)
    }
    summary = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["description"]
    links = []
    for page in pages:
        path = page.as_posix()
        links.append(f"- [{title_of(page)}]({path})" + (f": {tasks[path]}" if path in tasks else ""))
    return "\n".join(["# kameleon", "", f"> {summary}", "", "## Pages", "", *links, ""])


def title_of(page: Path) -> str:
    return (ROOT / page).read_text("utf-8").partition("\n")[0].removeprefix("# ").replace("`", "")


if __name__ == "__main__":
    main()
