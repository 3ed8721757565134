"""Files that are made to exhaust memory or time, or that lie about what they are. Where a reader took a time of the
square of what it reads, or expanded it, these tests would not end."""

import gzip
import tracemalloc
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from kameleon import files
from kameleon.errors import InvalidInput, InvalidRecord
from kameleon.files.front_matter import BadFrontMatter, split
from kameleon.files.html_pages import named_encoding, read_page
from kameleon.files.items import ReadOptions
from kameleon.files.outlines import Anchors, Section
from kameleon.files.reading import items
from kameleon.files.sources import Source
from kameleon.files.vectors import split_embeddings
from kameleon.markup import strip_html

MANY = 20_000


def read(content: bytes, format: str) -> list[Mapping[str, Any]]:
    return list(files.records(BytesIO(content), format=format))


def test_a_page_of_beginnings_that_nothing_ends_is_its_text() -> None:
    for beginning in ("<a ", "<!--", "<?", "</a", "<![", "<a b='"):
        text = beginning * MANY
        assert strip_html(f"x {text}").split() == f"x {text}".split(), beginning
    assert strip_html("<!-- x>" * MANY).startswith("<!-- x><!--")
    assert strip_html("<svg>" * MANY + "</p>" * MANY + "</svg>text") == "text"
    assert strip_html("a <b>word</b> <!-- hidden > --> and 1 < 2") == "a word and 1 < 2"


def test_a_marked_section_of_any_name_is_no_error() -> None:
    assert strip_html("a <![if !IE]> b <![ c> d <![x[y]]> e") == "a b d e"
    assert [section.text for section in read_page("<main><![endif]>text</main>").sections] == ["text"]


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("utf-16", "utf-8"),
        ("UTF-7", "utf-8"),
        ("iso-8859-1", "cp1252"),
        ("shift_jis", "shift_jis"),
        *((name, None) for name in ("punycode", "idna", "unicode_escape", "undefined", "zlib", "rot13", "none-such")),
    ],
)
def test_the_encoding_that_a_page_names_is_what_a_browser_takes(named: str, found: str | None) -> None:
    assert named_encoding(f"<meta charset={named}>".encode()) == found


@pytest.mark.parametrize(
    "fields",
    [
        "---\na: &a [*a]\n---\n",
        "---\na: &a '" + "x" * 900_000 + "'\nb: [*a, *a]\n---\n",
        "---\na: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
        + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + "---\n",
        "---\na: !!python/object/apply:os.getcwd []\n---\n",
        "+++\na = " + "[" * MANY + "\n+++\n",
        "+++\n" + ".".join("a" * MANY) + " = 1\n+++\n",
    ],
    ids=["recursive", "repeated text", "repeated lists", "python", "deep", "dotted"],
)
def test_front_matter_that_grows_without_end_is_refused(fields: str) -> None:
    with pytest.raises(BadFrontMatter):
        split(fields + "text")


def test_texts_with_dots_are_no_keys_of_toml() -> None:
    text = " ".join(["A sentence ends."] * 1000)
    assert split(f'+++\na = "{text}"\nb = "{"." * 1000}"\n+++\n').fields == {"a": text, "b": "." * 1000}


def test_sections_of_the_same_heading_are_numbered() -> None:
    anchors = Anchors()
    assert [anchors.name(Section(heading=each)) for each in ("a", "a-1", "a", "a")] == ["a", "a-1", "a-2", "a-3"]
    assert [anchors.name(Section(heading="b")) for _ in range(MANY)][-1] == f"b-{MANY - 1}"


def test_small_values_after_a_large_one_are_read_in_a_time_of_their_size() -> None:
    large = '{"a": "' + "x" * 4_000_000 + '"}'
    assert len(read(f"[{large}{', {}' * MANY}]".encode(), "json")) == MANY + 1
    assert len(read(b'{"a": 1}' * MANY, "jsonl")) == MANY


def test_places_are_those_of_the_file() -> None:
    stream = BytesIO(b"\n" * 3000 + b'{"a": 1}\n{"a": \n')
    found = list(items([Source("s", stream=stream)], ReadOptions(format="jsonl")))
    assert [item.place for item in found] == [3001, 3002]
    with pytest.raises(InvalidRecord, match="line 3003, column 8"):
        read(b"\n" * 3000 + b'[{"a": 1},\n {"b":2},\n {"b": ]', "json")


def test_a_compressed_file_is_never_held_whole() -> None:
    zstandard = pytest.importorskip("zstandard")
    blank = b" " * 100_000_000
    for compressed in (zstandard.compress(blank), gzip.compress(blank, 1)):
        tracemalloc.start()
        assert read(compressed, "jsonl") == []
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
        tracemalloc.stop()


def test_a_csv_file_has_any_number_of_columns() -> None:
    names = [f"c{number}" for number in range(MANY // 2)]
    commas = "," * (len(names) - 1)
    assert read(f"{','.join(names)}\n{commas}\n".encode(), "csv") == [dict.fromkeys(names)]
    with pytest.raises(InvalidRecord, match=r"two columns are called 'a', 1 and 3.*--columns a,b,a_3"):
        read(b"a,b,a\n1,2,3\n", "csv")


def test_links_out_of_a_folder_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "more.md").write_text("secret")
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "own.md").write_text("own")
    (folder / "file.md").symlink_to(tmp_path / "secret.md")
    (folder / "folder").symlink_to(tmp_path / "out")
    (folder / "loop").symlink_to(folder)
    notes: list[str] = []
    assert [record["id"] for record in files.records(folder, note=notes.append)] == ["own.md"]
    assert "3 symbolic links" in notes[0]
    (folder / "own.md").unlink()
    with pytest.raises(InvalidInput, match="no files"):
        list(files.records(folder))


def test_an_embedding_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="'e' is no list of numbers"):
        split_embeddings([{"id": "1", "e": "[" * MANY}], "e")
