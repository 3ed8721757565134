"""Records read from CSV and TSV: dialects, encodings, types, and what is refused."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon import files
from kameleon.errors import InvalidInput, InvalidRecord
from kameleon.files import Item, ReadOptions, items
from kameleon.files.delimited import SAMPLE
from kameleon.files.sources import Source

CAFE = "id,name\n1,Café crème à Orléans où\n"
LONG = ("1;" + "x" * 10_000 + "\n") * (SAMPLE // 10_000 + 1)
"""Rows beyond what the encoding and the types are found by."""


def read(raw: bytes | str, *, name: str = "in.csv", notes: list[str] | None = None, **options: Any) -> list[Item]:
    stream = io.BytesIO(raw if isinstance(raw, bytes) else raw.encode())
    note = (lambda _text: None) if notes is None else notes.append
    return list(items([Source(name, stream=stream)], ReadOptions(note=note, **options)))


def data(raw: bytes | str, **options: Any) -> list[Any]:
    found = read(raw, **options)
    assert [item.error for item in found] == [None] * len(found)
    return [item.data for item in found]


def error(raw: bytes | str, **options: Any) -> str:
    (found,) = [item for item in read(raw, **options) if item.error is not None]
    return str(found.error)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\nx y,z\n",
        "a;b\r\nx y;z\r\n",
        "a\tb\nx y\tz",
        "a|b\nx y|z\n",
        "a, b\nx y, z\n",
        "sep=;\na;b\nx y;z\n",
        'a,b\n"x y","z"\n',
        "\ufeffa,b\nx y,z\n",
        "a,b\rx y,z\r",
        "\n\na,b\n\nx y,z\n\n",
        "a,b,,\nx y,z,,\n",
    ],
)
def test_the_delimiter_and_the_line_ends_are_found(text: str) -> None:
    assert data(text) == [{"a": "x y", "b": "z"}]


def test_what_was_found_is_noted() -> None:
    notes: list[str] = []
    data("id;title;year;seen\n1;x;1999;true\n", notes=notes)
    assert notes == ["in.csv: 4 columns, delimiter semicolon: id, title, year (number), seen (boolean)"]


def test_an_item_has_its_first_line_and_its_bytes() -> None:
    found = read(b'a,b\n1,"x\ny"\r\n\n2,z')
    assert [(item.place, item.raw) for item in found] == [(2, b'1,"x\ny"\r\n'), (5, b"2,z")]
    assert {item.header for item in found} == {b"a,b\n"}
    assert [item.place for item in read(b'a,b\n1,"x\ny"\r\n\n2,z', from_place=3)] == [5]


def test_texts_stay_what_they_are() -> None:
    text = "id,zip,card,when,code,mixed,price,big,none\n"
    text += "7,007,1234567890123456,2026-01-31,1e5,1,12.50,1e+20,\n8,12,1,2026-02-01,2e7,x,-0.5,3,\n"
    first, second = data(text)
    assert first == {
        "id": "7",
        "zip": "007",
        "card": "1234567890123456",
        "when": "2026-01-31",
        "code": "1e5",
        "mixed": "1",
        "price": 12.5,
        "big": 1e20,
        "none": None,
    }
    assert (second["zip"], second["price"], second["big"]) == ("12", -0.5, 3)
    assert data("a\ntrue\nFALSE\n") == [{"a": True}, {"a": False}]
    assert data("a,b\nt,x\n") == [{"a": "t", "b": "x"}]


def test_types_may_be_declared() -> None:
    types = {"a": "integer", "b": "boolean", "c": "list", "d": "text", "e": "number"}
    text = 'a,b,c,d,e\n1234567890123456,t,"[1, ""x""]",5,1e5\nNA,no,NA,NA,NA\n'
    assert data(text, types=types, nulls=["NA"]) == [
        {"a": 1234567890123456, "b": True, "c": [1, "x"], "d": "5", "e": 100000.0},
        {"a": None, "b": False, "c": None, "d": None, "e": None},
    ]
    assert data("a,b\n1,2\n", default_types={"a": "text", "other": "number"}) == [{"a": "1", "b": 2}]
    assert data("a\n1\n", default_types={"a": "text"}, types={"a": "any"}) == [{"a": 1}]


@pytest.mark.parametrize(
    ("type_", "text", "reason"),
    [
        ("integer", "1.5", "'1.5' is not an integer, its type. --null 1.5 makes it null"),
        ("integer", "1_0", "'1_0' is not an integer"),
        ("number", "nan", "'nan' is not a number"),
        ("number", "1e999", "'1e999' is not a number"),
        ("boolean", "maybe", "'maybe' is not a boolean"),
        ("list", "{}", "'{}' is not a JSON list"),
        ("object", "[" * 100_000, "is not a JSON object"),
    ],
)
def test_a_value_that_is_not_of_its_type_is_refused(type_: str, text: str, reason: str) -> None:
    found = error(f"a|b\n{text}|x\n", types={"a": type_})
    assert found.startswith("column a: ")
    assert reason in found


@pytest.mark.parametrize("text", ["007", "n/a", "1234567890123456789", "1,5"])
def test_a_later_value_of_another_type_than_the_first_is_refused(text: str) -> None:
    (bad,) = [item for item in read(f"a;b\n{LONG}{text};y\n2;z\n") if item.error]
    assert bad.place == LONG.count("\n") + 2
    assert f"column a: '{text}' is not a number as those of the first rows are" in str(bad.error)
    assert "--type a:text keeps texts" in str(bad.error)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("1,2,3", "3 values where there are 2 columns: '3' is one too many. The delimiter is taken to be comma"),
        ("1", "1 value where there are 2 columns: none for b"),
        ('1,"x', "the quote at column 3 ('\"x') is not closed"),
        ('1,"x" y', "the quote at column 3 ('\"x\" y') is followed by one that is not doubled"),
        ("1,x\ry", "a carriage return outside of quotes"),
        ("1,xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "over 40 bytes (--max-record-bytes)"),
        ('"\n' + "x\n" * 30 + '",1', "is not closed within 40 bytes (--max-record-bytes)"),
    ],
)
def test_a_bad_row_is_named_and_the_next_is_read(bad: str, reason: str) -> None:
    first, *broken, last = read(f"a,b\nx,y\n{bad}\nv,w\n", max_bytes=40)
    assert (first.data, last.data) == ({"a": "x", "b": "y"}, {"a": "v", "b": "w"})
    assert broken
    assert reason in str(broken[0].error)
    assert broken[0].place == 3
    assert not any(item.is_fatal for item in broken)
    assert b"".join(item.raw for item in broken)[:40] == f"{bad}\n".encode()[:40]


def test_a_byte_that_is_not_of_the_encoding_is_named() -> None:
    *_, bad, last = read(f"a;b\n{LONG}1;Café\nv;w\n".encode("cp1252"), types={"a": "text"})
    assert bad.error == "not UTF-8: byte 0xe9 at column 6. --encoding names another"
    assert last.data == {"a": "v", "b": "w"}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("a,b,a", "two columns are called 'a', 1 and 3. Name them yourself: --columns a,b,a_3 --header"),
        ("1,x,y", "'1' is none. Name those of a file without such a line: --columns column_1,column_2,column_3"),
        ('"a,b', "is not closed"),
    ],
)
def test_a_header_that_cannot_be_one_ends_the_file(header: str, reason: str) -> None:
    (item,) = read(f"{header}\n1,2,3\n")
    assert item.is_fatal
    assert reason in str(item.error)


def test_columns_may_be_named() -> None:
    assert data("1,x\n2,y\n", columns=["n", "t"]) == [{"n": 1, "t": "x"}, {"n": 2, "t": "y"}]
    assert data("a,a\n1,x\n", columns=["n", "t"], has_header=True) == [{"n": 1, "t": "x"}]
    assert data(",b,\n,x,\n1,y,z\n") == [{"b": "x"}, {"column_1": 1, "b": "y", "column_3": "z"}]
    assert "two columns are called 'n'" in error("1,x\n", columns=["n", "n"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"])
def test_encodings_are_found(encoding: str) -> None:
    notes: list[str] = []
    assert data(CAFE.encode(encoding), notes=notes) == [{"id": "1", "name": "Café crème à Orléans où"}]
    assert len(notes) == (1 if encoding == "utf-8-sig" else 2)
    if encoding == "cp1252":
        assert notes[0] == "in.csv: read as cp1252, as it looks: '1,Café' on line 2. --encoding names another"


def test_an_encoding_may_be_named() -> None:
    for encoding in ("cp850", "shift_jis", "utf-16-le", "utf-16"):
        text = "id,name\n1,東京\n" if encoding == "shift_jis" else CAFE
        (record,) = data(text.encode(encoding), encoding=encoding)
        assert record["name"] == text.splitlines()[1][2:]
        (record,) = data('{"a": "Café"}'.encode("utf-16-le"), name="in.json", encoding="utf-16-le")
        assert record == {"a": "Café"}
    for unknown in ("klingon", "base64", ""):
        with pytest.raises(InvalidInput, match="unknown encoding"):
            read("a,b\n", encoding=unknown)


@pytest.mark.parametrize("text", ['id\tname\n1\t"Foo" bar\n2\tx"\n', 'id\tname\n1\t"Foo\n2\t"\n'])
def test_quotes_of_tabs_that_cannot_be_quotes_are_texts(text: str) -> None:
    assert [item["name"] for item in data(text, name="in.tsv")] == [row.split("\t")[1] for row in text.splitlines()[1:]]
    assert data('a,b\n"x,1\n', quote="none", types={"b": "text"}) == [{"a": '"x', "b": "1"}]
    assert data("a,b\n'x,1',y\n", quote="'") == [{"a": "x,1", "b": "y"}]
    assert data('id\tname\n1\t"x\ty"\n', name="in.tsv") == [{"id": "1", "name": "x\ty"}]


@pytest.mark.parametrize("options", [{"delimiter": "::"}, {"quote": "''"}, {"delimiter": "\n"}])
def test_what_is_no_character_is_refused(options: Any) -> None:
    with pytest.raises(InvalidInput, match="is one character, not"):
        read("a,b\n", **options)


def test_options_are_refused_that_a_format_has_not() -> None:
    with pytest.raises(InvalidInput, match=r"--delimiter is of csv, tsv, and what is read is json. --format names one"):
        read("{}", name="in.json", delimiter=";")
    with pytest.raises(InvalidInput, match=r"unknown format 'xls'. Known: jsonl"):
        read("{}", format="xls")
    with pytest.raises(InvalidInput, match=r"no column 'c' for --type. There are: a, b"):
        read("a,b\n", types={"c": "text"})
    with pytest.raises(InvalidInput, match="unknown type 'date' of 'a'"):
        read("a,b\n", types={"a": "date"})


@pytest.mark.parametrize(
    ("raw", "record"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b' \n[{"a": 1}]', {"a": 1}),
        (b"a,b\n1,x\n", {"a": 1, "b": "x"}),
        (gzip.compress(b"a;b\n1;x\n", mtime=0), {"a": 1, "b": "x"}),
        ("a,b\n1,x\n".encode("utf-16"), {"a": 1, "b": "x"}),
        ('{"a": 1}'.encode("utf-16"), {"a": 1}),
    ],
)
def test_the_format_of_a_pipe_is_that_of_its_beginning(raw: bytes, record: Any) -> None:
    assert data(raw, name="stdin") == [record]


def test_a_pipe_of_no_known_format_is_read_as_json_lines_and_noted() -> None:
    notes: list[str] = []
    first, _ = read("hello\nworld\n", name="stdin", notes=notes)
    assert first.error == "not JSON: Expecting value at column 1"
    assert notes[0].startswith("stdin: read as JSON lines: --format names another, jsonl, json, csv, tsv")
    assert data("hello\nworld\n", name="stdin", format="csv") == [{"hello": "world"}]


@pytest.mark.parametrize("raw", ["", "\n\n", "a,b\n", "\ufeff"])
def test_a_file_without_rows_has_no_records(raw: str) -> None:
    assert read(raw) == []


def test_compressed_files_are_read_to_the_end(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    text = b"a,b\n" + b"x,y\n" * 5000
    for name, compress in (("in.csv.gz", gzip.compress), ("in.csv.zst", zstandard.compress)):
        whole = compress(text[:10_000]) + compress(text[10_000:])
        path = tmp_path / name
        path.write_bytes(whole)
        assert sum(1 for _ in files.records(path)) == 5000
        path.write_bytes(whole[:-10])
        with pytest.raises(InvalidRecord, match=r"in\.csv\.\w+:\d+: cannot be read: "):
            list(files.records(path))
    assert "not zstd" in error(zstandard.compress(text)[:8] + b"x" * 100)


def test_types_of_the_first_file_hold_for_the_next(tmp_path: Path) -> None:
    paths = [tmp_path / "1.csv", tmp_path / "2.csv"]
    paths[0].write_text("a,b\n1,\n")
    paths[1].write_text("a,b\n007,5\n")
    with pytest.raises(InvalidRecord, match=r"2\.csv:2: column a: '007' is not a number"):
        list(files.records(paths))
    assert list(files.records(paths, types={"a": "text"})) == [{"a": "1", "b": None}, {"a": "007", "b": 5}]
    sources = [Source(str(path), path=path) for path in paths]
    (only,) = items(sources, ReadOptions(from_file=str(paths[1])))
    assert "is not a number" in str(only.error)


texts = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.lists(texts, min_size=3, max_size=3), max_size=6), st.sampled_from(",;\t|"), st.booleans())
def test_what_was_written_is_read(rows: Sequence[Sequence[str]], delimiter: str, is_dos: bool) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\r\n" if is_dos else "\n")
    writer.writerows([("one", "two", "three"), *rows])
    types = dict.fromkeys(("one", "two", "three"), "text")
    found = read(stream.getvalue(), delimiter=delimiter, quote='"', types=types)
    assert [item.error for item in found] == [None] * len(rows)
    assert [[value or "" for value in item.data.values()] for item in found] == [list(row) for row in rows]
    assert b"".join(item.raw for item in found) == stream.getvalue().partition("\n")[2].encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_items_or_refused(raw: bytes) -> None:
    try:
        found = read(raw)
    except InvalidInput:
        return
    for item in found:
        assert (item.data is None) != (item.error is None)
