"""The rows of Parquet files as records."""

import datetime as dt
import io
import json
import os
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from kameleon import RecordStore, SearchEngine, files
from kameleon.errors import InvalidInput, InvalidRecord
from kameleon.files.sources import sources

from .conftest import ids

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet")

MOMENT = dt.datetime(2026, 1, 31, 12, 30, tzinfo=dt.UTC)


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(given: Any, **options: Any) -> list[Any]:
    return list(files.records(given, **options))


VALUES: list[tuple[Any, list[Any]]] = [
    (pa.array(["a", None]).dictionary_encode(), ["a", None]),
    (pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
    (pa.array([1.5, float("nan")]), [1.5, None]),
    (pa.array([1.5, None], pa.float32()), [1.5, None]),
    (pa.array([True, None]), [True, None]),
    (pa.nulls(2), [None, None]),
    (pa.array([dt.date(2026, 1, 31), None]), ["2026-01-31", None]),
    (pa.array([1_769_862_600_123_456_789, None], pa.timestamp("ns")), ["2026-01-31T12:30:00.123456", None]),
    (pa.array([MOMENT, None], pa.timestamp("ms", "Europe/Oslo")), ["2026-01-31T12:30:00Z", None]),
    (pa.array([dt.time(12, 30), None]), ["12:30:00", None]),
    (pa.array([dt.timedelta(seconds=90), None]), [90.0, None]),
    (pa.array([Decimal("12.50"), None]), [12.5, None]),
    (pa.array([Decimal("12"), None]), [12, None]),
    (pa.array([Decimal("12345678901234567.25"), None]), ["12345678901234567.25", None]),
    (pa.array([["a", None], []]), [["a", None], []]),
    (pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)), [[1.0, 2.0], None]),
    (pa.array([{"a": 1, "at": MOMENT}, None]), [{"a": 1, "at": "2026-01-31T12:30:00Z"}, None]),
    (pa.array([[("k", 1.5)], None], pa.map_(pa.string(), pa.float64())), [{"k": 1.5}, None]),
    (pa.array([[{"d": [Decimal("1.5")]}], None]), [[{"d": [1.5]}], None]),
]


@pytest.mark.parametrize(("column", "expected"), VALUES, ids=[str(column.type) for column, _ in VALUES])
def test_values_are_those_of_json(tmp_path: Path, column: Any, expected: list[Any]) -> None:
    found = [record["value"] for record in read(write(tmp_path / "a.parquet", {"value": column}))]
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))
    assert json.loads(json.dumps(found)) == expected


@pytest.mark.skipif(not hasattr(pa, "uuid"), reason="pyarrow has no UUID type")
def test_a_uuid_is_its_text(tmp_path: Path) -> None:
    one = uuid.UUID(int=7)
    assert read(write(tmp_path / "a.parquet", {"id": pa.array([one.bytes], pa.uuid())})) == [{"id": str(one)}]


@pytest.mark.parametrize(
    "column", [pa.array([b"x"]), pa.array([[b"x"]]), pa.array([{"a": b"x"}]), pa.array([b"x"], pa.binary(1))]
)
def test_binary_is_refused_by_the_name_of_its_column(tmp_path: Path, column: Any) -> None:
    path = write(tmp_path / "a.parquet", {"id": ["1"], "the image": column})
    with pytest.raises(InvalidInput, match=r"column 'the image' is binary .* Leave it out with --drop 'the image'"):
        read(path)
    assert read(path, drop=["the image"]) == [{"id": "1"}]


def test_a_row_with_a_date_that_python_does_not_have_is_invalid(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"id": ["1", "2"], "when": pa.array([8_000_000, 1], pa.date32())})
    first, second = files.items(sources(path), files.ReadOptions())
    assert (first.place, first.is_fatal) == (1, False)
    assert (
        first.error == "column 'when' cannot be a value of Python's: date value out of range. --drop when leaves it out"
    )
    assert second.data == {"id": "2", "when": "1970-01-02"}


def test_rows_are_read_from_a_place_on_and_row_groups_before_it_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"n": list(range(2500))}, row_group_size=1200)
    raw = bytearray(path.read_bytes())
    metadata = pq.ParquetFile(path).metadata
    column = metadata.row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    raw[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(raw)
    assert [record["n"] for record in read(path, from_place=1202)] == list(range(1201, 2500))
    with pytest.raises(InvalidRecord, match=r"a\.parquet:1: cannot be read: not Parquet, or damaged"):
        read(path)


@pytest.mark.parametrize("raw", [b"", b"hello", b"PAR1 and no more"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(raw)
    with pytest.raises(InvalidRecord, match=r"a\.parquet:1: cannot be read: not Parquet, or damaged"):
        read(path)


def test_a_stream_is_read_too(tmp_path: Path) -> None:
    raw = write(tmp_path / "a.parquet", {"n": [1, 2]}).read_bytes()
    assert read(io.BytesIO(raw), format="parquet") == [{"n": 1}, {"n": 2}]


def test_a_folder_has_several_files_and_the_columns_of_its_partitions(tmp_path: Path) -> None:
    for year in (2025, 2026):
        write(tmp_path / "films" / f"year={year}" / "part-0.parquet", {"id": [f"{year}-1"]})
    write(tmp_path / "films" / "year=__HIVE_DEFAULT_PARTITION__" / "part-0.parquet", {"id": ["?"]})
    (tmp_path / "films" / "_SUCCESS").touch()
    assert read(tmp_path / "films") == [
        *({"id": f"{year}-1", "year": str(year)} for year in (2025, 2026)),
        {"id": "?", "year": None},
    ]


def test_rows_are_inserted_and_found(search: SearchEngine, tmp_path: Path) -> None:
    records = RecordStore(search)
    columns = {"id": ["1", "2"], "plot": ["a whale", "a shark"], "at": pa.array([MOMENT] * 2), "vote": [7.5, None]}
    path = write(tmp_path / "a.parquet", columns)
    assert records.load_files("Film", path).inserted.inserted == 2
    found = search.search("shark", mode="keyword", where={"at": {"$lt": dt.datetime(2027, 1, 1)}})
    assert ids(found) == ["2"]
    assert records.get("Film", "1").data == {"plot": "a whale", "at": "2026-01-31T12:30:00Z", "vote": 7.5}
    again = records.load_files("Film", path)
    assert (again.inserted.updated, again.inserted.index.embedded) == (2, 0)


def test_the_command_reads_parquet_and_keeps_rejected_rows_as_json(
    command: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KAMELEON_")}
    write(tmp_path / "a.parquet", {"id": ["1", "2" * 2_000], "plot": ["a whale", "a shark"]})
    stopped = command("data", "insert", "Film", "a.parquet", environment=environment)
    assert "a.parquet:2: a record id may have 1024 bytes at most" in stopped.stderr
    assert stopped.stderr.rstrip().endswith("kameleon data insert Film a.parquet --from-line 2")
    options = ["--skip-invalid", "--rejects", "bad.jsonl", "--from-line", "2"]
    done = command("data", "insert", "Film", "a.parquet", *options, environment=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "bad.jsonl").read_text()) == {"id": "2" * 2_000, "plot": "a shark"}
