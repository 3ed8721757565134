"""Records read from JSON lines, JSON arrays, compressed files and pipes."""

import codecs
import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon.files import Item, ReadOptions, items
from kameleon.files.sources import Source


def read_items(stream: Any, **options: Any) -> Iterator[Item]:
    return items([Source("in.jsonl", stream=stream)], ReadOptions(**options))


class Trickle(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 7, 7) if size and size > 0 else 7)


def read(raw: bytes, *, max_bytes: int = 1000, from_line: int = 1, stream: Any = io.BytesIO) -> list[Any]:
    return list(read_items(stream(raw), max_bytes=max_bytes, from_place=from_line))


@pytest.mark.parametrize("stream", [io.BytesIO, Trickle])
@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1}\n{"a": 2}\n',
        b'\n  {"a": 1}\r\n\n{"a": 2}',
        b'\xef\xbb\xbf{"a": 1}\n{"a": 2}',
        b'[{"a": 1}, {"a": 2}]',
        b' \n[\n  {\n"a": 1},\n\n{"a"\n: 2} ] \n',
    ],
)
def test_lines_and_arrays_are_read(raw: bytes, stream: Any) -> None:
    assert [item.data for item in read(raw, stream=stream)] == [{"a": 1}, {"a": 2}]


def test_one_object_may_span_lines() -> None:
    assert [item.data for item in read(b'{\n  "a": {\n "b": 1}\n}\n')] == [{"a": {"b": 1}}]
    assert [item.data for item in read(b'{"a": 1}')] == [{"a": 1}]


@pytest.mark.parametrize("raw", [b"", b"  \n\n ", b"[]", b" [ ] "])
def test_nothing_is_nothing(raw: bytes) -> None:
    assert read(raw) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": }', "not JSON: Expecting value at column 7"),
        (b"[1]", "not an object but a list"),
        (b'"x"', "not an object but a text"),
        (b"3", "not an object but a number"),
        (b"null", "not an object but null"),
        (b'{"a": NaN}', "not JSON: NaN is not a JSON number"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at column 8"),
        (b'{"a": "x\0y"}', "not JSON: Invalid control character at at column 9"),
        (b'{"a": ' + b"[" * 100_000, "over 1,000 bytes"),
        (b'{"a": "' + b"x" * 2000 + b'"}', "over 1,000 bytes"),
    ],
)
def test_a_bad_line_is_reported_and_the_next_is_read(line: bytes, reason: str) -> None:
    first, bad, last = read(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    assert (first.data, last.data, last.place) == ({"a": 1}, {"a": 3}, 3)
    assert bad.error is not None
    assert bad.error.startswith(reason)
    assert (bad.place, bad.is_fatal) == (2, False)


def test_a_line_nested_too_deep_for_the_parser_is_reported() -> None:
    (item,) = read(b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", max_bytes=1_000_000)
    assert item.error == "nested too deep"


def test_elements_of_an_array_are_counted_and_broken_json_ends_it() -> None:
    items = read(b'[{"a": 1}, 2, {"a": 3}, {"a" 4}, {"a": 5}]')
    assert [(item.place, item.data, item.is_fatal) for item in items] == [
        (1, {"a": 1}, False),
        (2, None, False),
        (3, {"a": 3}, False),
        (4, None, True),
    ]


@pytest.mark.parametrize(
    "raw", [b'[{"a": 1', b"[{} {}]", b"[{},,{}]", b"[{},]", b"[{}] x", b"[{}] [{}]", b"[", b"[NaN]"]
)
def test_a_malformed_array_ends_with_a_fatal_item(raw: bytes) -> None:
    *good, last = read(raw)
    assert all(item.error is None for item in good)
    assert last.is_fatal
    assert last.error is not None
    assert str(last.error).startswith("not JSON: ")


def test_a_truncated_stream_is_reported() -> None:
    complete = gzip.compress(b'{"a": 1}\n' * 1000)
    with gzip.open(io.BytesIO(complete[:-20])) as stream:
        *good, last = read_items(stream, max_bytes=100)
    assert last.is_fatal
    assert str(last.error).startswith("cannot be read: ")
    assert len(good) < 1001
    with gzip.open(io.BytesIO(b"no gzip at all")) as stream:
        (only,) = read_items(stream, max_bytes=100)
    assert str(only.error).startswith("cannot be read: Not a gzipped file")


def test_from_line_skips_the_lines_before() -> None:
    assert [item.place for item in read(b'{"a":1}\n{"a":2}\nbad\n{"a":4}', from_line=3)] == [3, 4]
    assert [item.data for item in read(b'[{"a":1},{"a":2}]', from_line=2)] == [{"a": 2}]


objects = st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(), max_size=3)


@given(st.lists(objects, max_size=8), st.booleans(), st.sampled_from([None, 2]), st.booleans())
def test_what_was_written_is_read(rows: list[Any], is_array: bool, indent: int | None, is_ascii: bool) -> None:
    if is_array:
        raw = json.dumps(rows, indent=indent, ensure_ascii=is_ascii)
    else:
        raw = "\n".join(json.dumps(row, ensure_ascii=is_ascii) for row in rows)
    data = raw.encode("utf-8", "surrogatepass" if is_ascii else "replace")
    for stream in (io.BytesIO, Trickle):
        items = read(data, stream=stream, max_bytes=10_000)
        assert [item.error for item in items] == [None] * len(rows)
        assert [item.data for item in items] == json.loads(
            json.dumps(json.loads(f"[{','.join(json.dumps(r) for r in rows)}]"))
        )


@given(st.binary(max_size=200))
def test_any_bytes_are_items_with_data_or_error(raw: bytes) -> None:
    for item in read(raw):
        assert (item.data is None) != (item.error is None)


def test_objects_over_several_lines_are_items_with_the_line_they_begin_on() -> None:
    records = [{"id": 1, "t": "first\n"}, {"id": 2, "t": {"a": [1, 2]}}, {"id": 3}]
    text = "\n".join(json.dumps(record, indent=2) for record in records[:2]) + '\n{"id": 3}\n'
    found = read(text.encode())
    assert [(item.place, item.data) for item in found] == list(zip((1, 5, 14), records, strict=True))
    assert [item.data for item in read(text.encode(), from_line=5)] == records[1:]
    *before, broken = read(text.replace("1,", "1,,").encode())
    assert [item.data for item in before] == records[:0]
    assert broken.is_fatal


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[\n {"a": 1,\n  "b": 2,\n }\n]', "at line 4, column 2: the comma before it is one too many"),
        ('[{"a": 1},\n]', "the comma before ] is one too many, at line 2, column 1"),
        ('[{"a": 1}\n {"a": 2}]', "a comma or ] is missing at line 2, column 2"),
        ('[{"a": 1},\n {"a": 2}', "a comma or ] is missing at line 2, column 10"),
        ('[{"a": 1}]\n\n{"b": 2}', "there is more after the array, at line 3, column 1"),
        ('{\n "a": 1,\n}', "at line 3, column 1: the comma before it is one too many"),
        ('{\n "a": 1', "at line 2, column 8: the input ends there"),
    ],
)
def test_broken_json_over_several_lines_is_named_by_its_place(text: str, error: str) -> None:
    found = read(text.encode())[-1]
    assert found.error is not None
    assert found.error.endswith(error)
    assert found.is_fatal


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read_and_noted(encoding: str) -> None:
    text = ("" if encoding == "utf-16" else "\ufeff") + '{"a": "é 😀"}\n{"a": 2}\n'
    notes: list[str] = []
    found = list(read_items(io.BytesIO(text.encode(encoding)), max_bytes=1000, note=notes.append))
    assert [item.data for item in found] == [{"a": "é 😀"}, {"a": 2}]
    assert notes == ["in.jsonl: read as UTF-16"]
    cut = list(read_items(io.BytesIO(text.encode(encoding)[:-1]), max_bytes=1000))
    assert "not UTF-16: truncated data" in (cut[-1].error or "")


def test_files_that_were_put_together_are_read_in_full() -> None:
    bom = codecs.BOM_UTF8
    assert [item.data for item in read(bom + b'{"a": 1}\n' + bom + b'{"a": 2}\n')] == [{"a": 1}, {"a": 2}]
    joined = read(bom + b'{"a": 1}' + bom + b'{"a": 2}\n{"a": 3}')
    assert [(item.place, item.data) for item in joined] == [(1, {"a": 1}), (1, {"a": 2}), (2, {"a": 3})]
    (broken,) = read(b'{"a": 1}{"a": }\n')
    assert "not JSON" in (broken.error or "")
    assert not broken.is_fatal
