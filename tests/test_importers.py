"""Importers, over databases that Chroma, LanceDB and pgvector made: vectors are stored as they are, and the provider is
not called."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import URL, Engine, text

from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import GivenVectors
from kameleon.errors import InvalidInput, ModelMismatch
from kameleon.exporting import Export
from kameleon.importers import import_records
from kameleon.importers.pgvector import VectorTable
from kameleon.testing import HashProvider

from .conftest import Make, ids
from .test_cli import Run, checked

VECTORS = np.random.default_rng(3).normal(size=(7, 4)).astype(np.float32)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def search(make: Make) -> SearchEngine:
    return make(GivenVectors("theirs"))


@pytest.fixture
def run(command: Callable[..., subprocess.CompletedProcess[str]]) -> Run:
    return checked(command)


def check_moved(search: SearchEngine, entity: str) -> None:
    """What was imported has the vectors that were given, up to their length."""
    rows = list(Export(search, entity, with_embeddings=True))
    assert [row["id"] for row in rows] == [str(n) for n in range(7)]
    units = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    np.testing.assert_allclose([row["embedding"] for row in rows], units, atol=1e-6)
    best = np.argsort(-(units @ units[0]))[1]
    assert ids(search.similar(entity, "0", mode="vector"))[0] == str(best)


@pytest.fixture
def chroma(tmp_path: Path) -> Path:
    chromadb = pytest.importorskip("chromadb", reason="chromadb is not installed")
    settings = pytest.importorskip("chromadb.config").Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(tmp_path / "chroma"), settings=settings)
    made = client.create_collection("notes", embedding_function=None)
    made.add(
        ids=[str(n) for n in range(7)],
        documents=[f"note number {n}" for n in range(7)],
        embeddings=VECTORS.tolist(),
        metadatas=[{"year": 2000 + n, "id": f"own {n}"} for n in range(7)],
    )
    return tmp_path / "chroma"


def test_a_chroma_folder_is_imported(search: SearchEngine, chroma: Path) -> None:
    from kameleon.importers.chroma import ChromaCollection

    progress: list[tuple[int, int]] = []
    source = ChromaCollection(chroma)
    report = import_records(search, source, batch_size=3, progress=lambda *done: progress.append(done))
    assert (report.inserted, report.index.reused, report.index.pending) == (7, 7, 0)
    assert progress == [(3, 7), (6, 7), (7, 7)]
    check_moved(search, "notes")
    record = RecordStore(search).get("notes", "3")
    assert record.data == {"document": "note number 3", "year": 2003, "id_": "own 3"}
    again = import_records(search, source)
    assert (again.updated, again.index.unchanged, again.index.reused) == (7, 7, 0)
    assert ids(search.search("number", where={"year": 2003}, mode="keyword")) == ["3"]


def test_a_folder_that_is_none_of_chromas_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("chromadb", reason="chromadb is not installed")
    from kameleon.importers.chroma import ChromaCollection

    with pytest.raises(InvalidInput, match=r"chroma\.sqlite3"):
        ChromaCollection(tmp_path)


def test_the_command_imports_a_chroma_folder(run: Run, chroma: Path) -> None:
    done = run("import", "chroma", str(chroma), status=1)
    assert "name the model of these embeddings" in done.stderr
    done = run("import", "chroma", str(chroma), "--provider", "given", "--model", "theirs", "--entity", "Note")
    assert done.stdout == "Note: 7 inserted, 0 updated; 7 embeddings stored, 0 pending\n"


def test_a_lancedb_table_is_imported(search: SearchEngine, tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed")
    from kameleon.importers.lancedb import LanceTable

    rows = [{"id": n, "text": f"note {n}", "vector": VECTORS[n].tolist(), "year": 2000 + n} for n in range(7)]
    lancedb.connect(str(tmp_path / "lance")).create_table("notes", data=rows)
    report = import_records(search, LanceTable(tmp_path / "lance"), batch_size=3)
    assert (report.inserted, report.index.reused) == (7, 7)
    check_moved(search, "notes")
    assert RecordStore(search).get("notes", "3").data == {"text": "note 3", "year": 2003}
    with pytest.raises(InvalidInput, match="notes has no 'body'"):
        LanceTable(tmp_path / "lance", text=["body"])
    shutil.rmtree(tmp_path / "lance" / "notes.lance")
    with pytest.raises(InvalidInput, match="has none"):
        LanceTable(tmp_path / "lance")


ITEMS = """
    CREATE TABLE "Their items" (
      key integer PRIMARY KEY, title text, body text, price numeric(8, 2), added date, tags text[], meta jsonb,
      raw bytea, embedding vector(4)
    )
"""


@pytest.fixture
def items(pg_engine: Engine) -> Engine:
    """A table with a column of pgvector's, whose type may be in a schema that this test's is not."""
    with pg_engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        of = "SELECT CAST(CAST(extnamespace AS regnamespace) AS text) FROM pg_extension WHERE extname = 'vector'"
        schema = connection.execute(text(of)).scalar_one()
        connection.execute(text(ITEMS.replace("vector(4)", f'"{schema}".vector(4)')))
        insert = text(
            f"""INSERT INTO "Their items" VALUES (:n, :title, 'a body', 1.50, '2020-01-02', '{{x,y}}', '{{"a": 1}}',
            'raw', CAST(:vector AS "{schema}".vector))"""
        )
        for n, vector in enumerate(VECTORS.tolist()):
            connection.execute(insert, {"n": n, "title": f"item {n}", "vector": str(vector)})
    return pg_engine


def test_a_pgvector_table_is_imported(search: SearchEngine, items: Engine) -> None:
    source = VectorTable(items, "Their items", text=["title", "body"])
    report = import_records(search, source, "Item", batch_size=3)
    assert (report.inserted, report.index.reused, report.index.pending) == (7, 7, 0)
    check_moved(search, "Item")
    data = RecordStore(search).get("Item", "3").data
    assert data == {
        "title": "item 3",
        "body": "a body",
        "price": 1.5,
        "added": "2020-01-02",
        "tags": ["x", "y"],
        "meta": {"a": 1},
    }
    assert ids(search.search("item", where={"meta.a": 1}, mode="keyword", limit=1)) == ["0"]


def test_nothing_is_embedded_when_records_are_imported(make: Make, items: Engine) -> None:
    provider = HashProvider(dimensions=4)
    search = make(provider)
    import_records(search, VectorTable(items, "Their items"))
    assert provider.calls == []
    assert search.get_status("Their items")[0].pending == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "missing"}, "there is no table 'missing'"),
        ({"text": ["blurb"]}, "has no 'blurb'. It has: title, body"),
        ({"vector": "title"}, "has no vector 'title': Their items has embedding"),
        ({"id": "isbn"}, "has no key 'isbn'"),
    ],
)
def test_what_no_table_has_is_refused_with_what_it_has(items: Engine, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        VectorTable(items, **{"table": "Their items", **options})


def test_vectors_of_another_length_than_the_index_has_are_refused(make: Make, items: Engine) -> None:
    search = make(HashProvider(dimensions=8))
    with pytest.raises(ModelMismatch, match="have 4 numbers, this engine's model is"):
        import_records(search, VectorTable(items, "Their items"))
    assert RecordStore(search).entities() == []


def test_an_entity_that_searches_none_of_the_texts_is_refused(make: Make, items: Engine) -> None:
    search = make(HashProvider(dimensions=4))
    records = RecordStore(search)
    records.create_entity("Item", search=["body"])
    with pytest.raises(InvalidInput, match=r"searches body, not title.*kameleon entity update Item --search title"):
        import_records(search, VectorTable(items, "Their items", text=["title"]), "Item")
    assert search.get_status("Item") == []
    import_records(search, VectorTable(items, "Their items", text=["title", "body"]), "Item")
    assert search.get_status("Item")[0].indexed == 7


def test_the_command_imports_a_pgvector_table(run: Run, items: Engine, pg_url: URL) -> None:
    url = pg_url.render_as_string(hide_password=False)
    named = ("--provider", "given", "--model", "theirs", "--entity", "Item")
    done = run("import", "pgvector", "Their items", "--from", url, *named)
    assert done.stdout == "Item: 7 inserted, 0 updated; 7 embeddings stored, 0 pending\n"
    assert run("search", "body", "--mode", "keyword", "--limit", "1").stdout
