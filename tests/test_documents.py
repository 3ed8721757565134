"""Markdown, text and HTML files as records, and folders of them that are read again."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from kameleon import RecordStore, SearchEngine, files
from kameleon.errors import InvalidInput, InvalidRecord, MissingExtra
from kameleon.files.front_matter import split, yaml_loader
from kameleon.files.html_pages import read_page
from kameleon.files.outlines import sections
from kameleon.testing import HashProvider

from .conftest import ids

HANDBOOK = """---
title: The handbook
tags: [setup, "two words"]
date: 2026-01-31
code: 007
draft: no
at: 12:30
rating: 4.5
id: intro
author: {name: Ann}
---
How to begin.

# Install

Use the package manager.

```sh
# not a heading
```

## Linux ##
apt on Linux

Windows
-------
a wizard on Windows

## Linux
once more
"""
PAGE = """<!doctype html><html><head><title>Ferries &amp; boats</title><meta name="keywords" content="ferry, boat" />
<style>p {}</style></head><body><nav>Start Contact</nav><main><h1 id="top">Ferries</h1><p>They sail <b>dai</b>ly.
<script>alert(1)</script></p><h2>Tickets</h2><p>Buy on board.</p></main><footer>imprint</footer></body></html>"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    write(folder, {"handbook.md": HANDBOOK, "sea/ferries.html": PAGE, "sea/tides.txt": "The tide is high at noon."})
    return folder


def write(folder: Path, texts: Mapping[str, str | bytes]) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)


def read(given: Any, **options: Any) -> dict[str, dict[str, Any]]:
    return {data["id"]: {**data} for data in files.records(given, **options)}


def test_a_folder_is_a_record_for_each_file(docs: Path) -> None:
    found = read(docs)
    assert list(found) == ["handbook.md", "sea/ferries.html", "sea/tides.txt"]
    handbook = found["handbook.md"]
    assert handbook.pop("text").startswith("How to begin.\n\n# Install\n")
    origin = handbook.pop("_file")
    assert (origin["folder"], origin["path"], origin["records"]) == ("docs", "handbook.md", 1)
    assert handbook == {
        "id": "handbook.md",
        "title": "The handbook",
        "tags": ["setup", "two words"],
        "date": "2026-01-31",
        "code": "007",
        "draft": "no",
        "at": "12:30",
        "rating": 4.5,
        "id_": "intro",
        "author": {"name": "Ann"},
    }
    page = found["sea/ferries.html"]
    assert (page["title"], page["keywords"]) == ("Ferries & boats", ["ferry", "boat"])
    assert page["text"] == "Ferries\nThey sail daily.\nTickets\nBuy on board."
    assert (found["sea/tides.txt"]["title"], found["sea/tides.txt"]["text"]) == ("tides", "The tide is high at noon.")


def test_sections_are_named_by_their_headings(docs: Path) -> None:
    found = read(docs, by_section=True)
    assert list(found) == [
        *("handbook.md", "handbook.md#install", "handbook.md#linux", "handbook.md#windows", "handbook.md#linux-1"),
        *("sea/ferries.html#top", "sea/ferries.html#tickets", "sea/tides.txt"),
    ]
    assert found["handbook.md"]["text"] == "How to begin."
    assert found["handbook.md#install"]["text"] == "Use the package manager.\n\n```sh\n# not a heading\n```"
    linux = found["handbook.md#linux"]
    assert (linux["title"], linux["headings"], linux["text"]) == ("Linux", ["The handbook", "Install"], "apt on Linux")
    assert linux["tags"] == ["setup", "two words"]
    assert found["sea/ferries.html#tickets"]["headings"] == ["Ferries & boats", "Ferries"]
    assert {data["_file"]["records"] for name, data in found.items() if name.startswith("handbook")} == {5}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\na\n# Two #\nb", [("One", "a"), ("Two", "b")]),
        ("Title\n===\na", [("Title", "a")]),
        ("text\n\n---\nmore", [("", "text\n\n---\nmore")]),
        ("- item\n---\nmore", [("", "- item\n---\nmore")]),
        ("#hashtag\n    # code", [("", "#hashtag\n    # code")]),
        ("~~~\n# x\n```\n~~~\n# Y\nz", [("", "~~~\n# x\n```\n~~~"), ("Y", "z")]),
        ("## The [link](http://x.example) and `code_name` {#own}\nz", [("The link and code_name", "z")]),
        ("# C#\nz", [("C#", "z")]),
    ],
)
def test_headings_are_those_of_markdown(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(each.heading, each.text) for each in sections(text) if each.heading or each.text] == expected


@given(st.text(alphabet="#=-`~ \nab[]<{}_", max_size=60))
def test_no_line_of_a_text_is_lost_between_its_sections(text: str) -> None:
    found = sections(text)
    lines = [line.strip() for each in found for line in each.lines if line.strip()]
    kept = [line.strip() for line in text.split("\n") if line.strip()]
    assert [line for line in kept if line in lines] == lines
    assert [each.line for each in found] == sorted(each.line for each in found)


TOML = {"day": "2026-01-31", "at": "12:30:00", "a": {"b": "c"}}


@pytest.mark.parametrize(
    ("text", "fields", "rest"),
    [
        ("no front matter", {}, "no front matter"),
        ("---\na: 1\n---\nx", {"a": 1}, "x"),
        ("---\na: 1\n...\nx", {"a": 1}, "x"),
        ("---\n---\nx", {}, "x"),
        (
            '+++\nwhen = 2026-01-31\nat = 12:30:00\n[a]\nb = "c"\n+++\nx',
            {"when": "2026-01-31", "at": "12:30:00", "a": {"b": "c"}},
            "x",
        ),
        ("---\nA sentence between rules\n---\nx", {}, "---\nA sentence between rules\n---\nx"),
        ("---\nnever: closed\n", {}, "---\nnever: closed\n"),
        ("---\na: &b [1]\nc: *b\nyes: ~\nn: -3\n---\n", {"a": [1], "c": [1], "yes": None, "n": -3}, ""),
    ],
)
def test_front_matter_becomes_fields(text: str, fields: dict[str, Any], rest: str) -> None:
    found = split(text)
    assert (found.fields, found.text) == (fields, rest)


BOMB = "---\na: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("---\na: [1\nb: 2\n---\n", "x.md:3: ", "front matter is no YAML"),
        ("+++\na = \n+++\n", "x.md:2: ", "front matter is no TOML"),
        ("---\na: !!binary aGk=\n---\n", "x.md:2: ", "a is bytes"),
        ("---\na: !!python/name:os.system\n---\n", "x.md:2: ", "could not determine a constructor"),
        (f"{BOMB}---\n", "x.md:2: ", "over 10,000 values"),
    ],
    ids=["yaml", "toml", "binary", "python", "aliases"],
)
def test_bad_front_matter_is_refused_with_its_line(tmp_path: Path, text: str, place: str, part: str) -> None:
    write(tmp_path, {"x.md": text})
    with pytest.raises(InvalidRecord, match=part) as error:
        read(tmp_path)
    assert place in str(error.value)


def test_a_page_without_main_or_headings_is_its_body() -> None:
    page = read_page("<title>T<p>never closed")
    assert page.sections[0].text
    page = read_page("<p>one<br>two</p><svg><title>icon</title></svg><p hidden>three")
    assert (page.title, [each.text for each in page.sections]) == ("", ["one\ntwo\nthree"])
    assert read_page("<main></main><h2>A</h2>b").sections[-1].text == "b"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1251"])
def test_texts_are_decoded(tmp_path: Path, encoding: str) -> None:
    text = "Широка страна моя родная, много в ней лесов, полей и рек."
    write(tmp_path, {"song.txt": text.encode(encoding)})
    given = {"encoding": encoding} if encoding == "cp1251" else {}
    assert read(tmp_path, **given)["song.txt"]["text"] == text


def test_an_encoding_that_does_not_fit_is_refused_with_the_place(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "ok\nna\xefve".encode("latin-1")})
    with pytest.raises(InvalidRecord, match=r"byte 0xef at line 2, column 3 is not ascii. --encoding names another"):
        read(tmp_path, encoding="ascii")
    with pytest.raises(InvalidRecord, match="unknown encoding 'klingon'"):
        read(tmp_path, encoding="klingon")


def test_hidden_files_links_and_what_is_excluded_are_left_out(docs: Path) -> None:
    write(docs, {".git/a.md": "x", ".hidden.md": "x", "drafts/b.md": "x", "logo.png": "x", "notes.tmp.md": "x"})
    (docs / "link.md").symlink_to(docs / "handbook.md")
    (docs / "around").symlink_to(docs)
    notes: list[str] = []
    found = read(docs, exclude=["drafts", "*.tmp.md", "sea/t*"], note=notes.append)
    assert list(found) == ["handbook.md", "sea/ferries.html"]
    assert notes == [f"{docs}: left out 2 symbolic links, 1 .png"]
    with pytest.raises(InvalidInput, match=r"has no files of html or markdown or text; it has 1 \.png"):
        read(docs, exclude=["*.md", "*.html", "*.txt"])
    assert list(read(docs, format="html")) == ["sea/ferries.html"]
    assert list(read(docs / "handbook.md")) == ["handbook.md"]


def test_only_files_that_have_changed_are_read_again(search: SearchEngine, provider: HashProvider, docs: Path) -> None:
    records = RecordStore(search)
    first = records.load_files("Page", docs, by_section=True)
    assert (first.inserted.inserted, first.unchanged_files, first.gone) == (8, 0, ())
    calls = len(provider.calls)
    again = records.load_files("Page", docs, by_section=True)
    assert (again.inserted.inserted, again.inserted.updated, again.unchanged_files) == (0, 0, 3)
    assert len(provider.calls) == calls
    (docs / "handbook.md").write_text(HANDBOOK.replace("apt on Linux", "pacman on Linux"))
    changed = records.load_files("Page", docs, by_section=True)
    assert (changed.inserted.updated, changed.inserted.index.embedded, changed.unchanged_files) == (5, 1, 2)
    assert ids(search.search("pacman", mode="keyword")) == ["handbook.md#linux"]
    entity = records.entity("Page")
    assert "_file" in entity.field_names
    assert "_file" not in entity.searchable


def test_sync_deletes_the_records_whose_files_or_sections_are_gone(search: SearchEngine, docs: Path) -> None:
    records = RecordStore(search)
    records.insert("Page", [{"id": "own", "title": "not from a file"}])
    other = docs.parent / "other"
    write(other, {"b.md": "in another folder"})
    records.load_files("Page", other)
    records.load_files("Page", docs, by_section=True)
    (docs / "sea" / "tides.txt").unlink()
    (docs / "handbook.md").write_text(HANDBOOK.partition("Windows")[0])
    kept = records.load_files("Page", docs, by_section=True)
    assert set(kept.gone) == {"sea/tides.txt", "handbook.md#windows", "handbook.md#linux-1"}
    assert kept.removed == 0
    synced = records.load_files("Page", docs, by_section=True, sync=True)
    assert (set(synced.gone), synced.removed) == (set(kept.gone), 3)
    left = {record.id for record in records.list("Page")}
    pages = {"handbook.md", "handbook.md#install", "handbook.md#linux"}
    assert left == {"own", "b.md", *pages, "sea/ferries.html#top", "sea/ferries.html#tickets"}
    assert ids(search.search("tide", mode="keyword")) == []


def test_what_cannot_be_read_keeps_its_records(search: SearchEngine, docs: Path) -> None:
    records = RecordStore(search)
    records.load_files("Page", docs)
    (docs / "handbook.md").write_text("---\na: [\n---\n")
    with pytest.raises(InvalidRecord, match=r"handbook\.md:"):
        records.load_files("Page", docs, sync=True)
    report = records.load_files("Page", docs, sync=True, skip_invalid=True)
    assert (report.removed, len(report.errors), report.unchanged_files) == (0, 1, 2)
    assert records.get("Page", "handbook.md").data["title"] == "The handbook"


def test_a_record_that_cannot_be_stored_is_named_by_its_file(search: SearchEngine, docs: Path) -> None:
    records = RecordStore(search)
    write(docs, {"aaa.md": f"---\nn: {2**2000}\n---\n"})
    with pytest.raises(InvalidRecord, match=r"aaa\.md:1: n is a whole number of 2001 bits"):
        records.load_files("Page", docs)
    assert "Page" not in {entity.name for entity in records.entities()}
    report = records.load_files("Page", docs, skip_invalid=True)
    assert (report.inserted.inserted, len(report.errors)) == (3, 1)
    assert report.errors[0].startswith(f"{docs / 'aaa.md'}:1: n is a whole number of 2001 bits")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are UTF-8")
def test_a_file_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("x")
    with pytest.raises(InvalidRecord, match="its name is not UTF-8"):
        read(tmp_path)


def test_a_file_of_which_not_all_sections_were_stored_is_read_again(search: SearchEngine, docs: Path) -> None:
    records = RecordStore(search)
    records.load_files("Page", docs, by_section=True)
    records.delete("Page", ["handbook.md#linux"])
    again = records.load_files("Page", docs, by_section=True)
    assert (again.inserted.inserted, again.inserted.updated, again.unchanged_files) == (1, 4, 2)
    whole = records.load_files("Page", docs, sync=True)
    assert {record.id for record in records.list("Page")} == {"handbook.md", "sea/ferries.html", "sea/tides.txt"}
    assert whole.removed == 6


def test_files_of_two_folders_with_one_path_are_refused(search: SearchEngine, docs: Path) -> None:
    records = RecordStore(search)
    records.load_files("Page", docs)
    write(docs.parent / "more", {"handbook.md": "another"})
    with pytest.raises(InvalidRecord, match=r"the folder 'docs' has a file 'handbook\.md', too"):
        records.load_files("Page", docs.parent / "more")
    assert records.get("Page", "handbook.md").data["title"] == "The handbook"


def test_the_files_of_tenants_are_apart(search: SearchEngine, docs: Path) -> None:
    records = RecordStore(search)
    for tenant in ("acme", "initech"):
        assert records.load_files("Page", docs, tenant=tenant).inserted.inserted == 3
    (docs / "sea" / "tides.txt").unlink()
    assert records.load_files("Page", docs, tenant="acme", sync=True).removed == 1
    bound = RecordStore(search.for_tenant("initech"))
    assert len(bound.list("Page")) == 3
    assert bound.load_files("Page", docs, sync=True).removed == 1
    assert [len(records.list("Page", tenant=tenant)) for tenant in ("acme", "initech")] == [2, 2]


def test_a_file_that_moves_to_another_tenant_leaves_the_first(search: SearchEngine, tmp_path: Path) -> None:
    records, folder = RecordStore(search), tmp_path / "docs"
    write(folder, {"a.md": "---\nowner: acme\n---\nsecret", "b.md": "---\nowner: acme\n---\nplain"})
    records.load_files("Page", folder, tenant_field="owner")
    write(folder, {"a.md": "---\nowner: initech\n---\nsecret"})
    assert records.load_files("Page", folder, sync=True).removed == 1
    assert [record.id for record in records.list("Page", tenant="acme")] == ["b.md"]
    assert [record.id for record in records.list("Page", tenant="initech")] == ["a.md"]


Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(command: Run, tmp_path: Path) -> Run:
    def call(*arguments: str, status: int = 0, stdin: str = "") -> CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KAMELEON_")}
        done = command(*arguments, environment={**environment, "COLUMNS": "100"}, stdin=stdin.encode())
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


def test_the_command_reads_a_folder_again_and_deletes_after_a_confirmation(run: Run, docs: Path) -> None:
    made = run("data", "insert", "Page", "docs")
    assert made.stdout.startswith("Page: 3 inserted; 3 embedded, ")
    again = run("data", "insert", "Page", "docs/")
    assert again.stdout.startswith("Page: 0 inserted, 3 files unchanged; 0 embedded, ")
    (docs / "sea" / "tides.txt").unlink()
    kept = run("data", "insert", "Page", "docs")
    assert "kept 1 of Page whose files or sections are gone (sea/tides.txt): --sync deletes them" in kept.stderr
    declined = run("data", "insert", "Page", "docs", "--sync", stdin="n\n")
    assert "Delete 1 of Page whose files or sections are gone (sea/tides.txt)?" in declined.stderr
    assert declined.stdout.startswith("Page: 0 inserted, 2 files unchanged; ")
    done = run("data", "insert", "Page", "docs", "--sync", "--no-confirm")
    assert done.stdout.startswith("Page: 0 inserted, 1 removed, 2 files unchanged; ")


def test_a_bad_document_stops_the_command_or_is_kept_by_name(run: Run, docs: Path, tmp_path: Path) -> None:
    write(docs, {"bad.md": "---\na: [\n---\n", "huge.md": f"---\nn: {2**2000}\n---\nx"})
    stopped = run("data", "insert", "Page", "docs", status=1)
    assert stopped.stderr.splitlines()[-1].startswith("Error: docs/bad.md:3: front matter is no YAML")
    assert "--from-line" not in stopped.stderr
    done = run("data", "insert", "Page", "docs", "--skip-invalid", "--rejects", "bad.txt", "--section")
    assert done.stdout.startswith("Page: 8 inserted, 2 rejected;")
    assert (tmp_path / "bad.txt").read_text() == "docs/bad.md\ndocs/huge.md\n"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["docs", "--id-field", "slug"], "the id of a document is its path"),
        (["docs", "--from-line", "3"], "documents that are stored are passed over"),
        (["docs/handbook.md", "--sync"], "--sync is for folders of documents"),
        (["rows.jsonl", "--sync"], "--sync is for folders of documents"),
        (["docs", "rows.jsonl"], "documents and files of records are read in two commands"),
    ],
)
def test_options_that_do_not_fit_are_refused(run: Run, docs: Path, options: list[str], part: str) -> None:
    write(docs.parent, {"rows.jsonl": '{"id": 1}\n'})
    assert part in run("data", "insert", "Page", *options, status=2).stderr


def test_load_files_takes_every_format(search: SearchEngine, tmp_path: Path) -> None:
    records = RecordStore(search)
    records.create_entity("Film", search=["plot"], fields={"code": "text", "votes": "integer"})
    write(tmp_path / "films", {"a.csv": "id,plot,code,votes\n1,a whale,007,12\n", "b.csv": "id,plot\n2,a shark\n"})
    stored: list[int] = []
    report = records.load_files("Film", tmp_path / "films", batch_size=1, progress=stored.append, drop=["x"])
    assert (report.inserted.inserted, report.unchanged_files, stored) == (2, 0, [1, 2])
    assert records.get("Film", "1").data == {"plot": "a whale", "code": "007", "votes": 12}
    again = records.load_files("Film", [tmp_path / "films" / "b.csv"], on_conflict="ignore")
    assert again.inserted.skipped == 1


def test_load_files_has_a_coroutine(file_engine: Engine, docs: Path) -> None:
    records = RecordStore(SearchEngine(file_engine))
    assert asyncio.run(records.aload_files("Page", docs)).inserted.inserted == 3


def test_the_extra_is_named_where_its_package_is_missing(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("yaml", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "kameleon.files.parquet", raising=False)
    yaml_loader.cache_clear()
    write(docs.parent, {"a.parquet": "PAR1"})
    for path, package in ((docs, "pyyaml"), (docs.parent / "a.parquet", "pyarrow")):
        with pytest.raises(MissingExtra, match=rf"^{package} is not installed\. pip install 'kameleon\[files\]'$"):
            read(path)
    assert list(read(docs / "sea")) == ["ferries.html", "tides.txt"]
