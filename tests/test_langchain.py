"""LangChain's vector store and retriever over ours."""

import asyncio
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import kameleon
from kameleon import RecordStore
from kameleon.errors import InvalidInput
from kameleon.integrations.langchain import KameleonRetriever, KameleonVectorStore, provider

from .conftest import Make

DOCUMENTS = [
    Document(id="a", page_content="red fox", metadata={"year": 2020, "tag": {"name": "x"}}),
    Document(id="b", page_content="lazy dog", metadata={"year": 2021}),
    Document(id="c", page_content="fox and dog", metadata={"year": 2022, "pages": [1, 2]}),
]


class Planar(Embeddings):
    """Texts on a plane, by whether they are about foxes and dogs; queries by the first letter alone."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0 + text.count("fox"), 1.0 + text.count("dog")] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0] if text.startswith("f") else [0.0, 1.0]


class Awaited(Planar):
    """Its coroutines alone embed."""

    calls = 0

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        return super().embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        self.calls += 1
        return super().embed_query(text)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(make: Make) -> KameleonVectorStore:
    store = KameleonVectorStore(make(provider(Planar(), is_costly=False)))
    assert store.add_documents(DOCUMENTS) == ["a", "b", "c"]
    return store


def ids(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


def test_documents_are_found_by_vectors(store: KameleonVectorStore) -> None:
    assert store.similarity_search("fox", k=1) == DOCUMENTS[:1]
    assert ids(store.similarity_search("dog")) == ["b", "c", "a"]
    assert ids(store.similarity_search_by_vector([1.0, 0.0], k=3)) == ["a", "c", "b"]
    assert ids(store.similarity_search("red", mode="hybrid", weight=0.1, k=1)) == ["a"]
    assert ids(store.similarity_search("lazy", mode="keyword")) == ["b"]


def test_a_score_is_the_cosine(store: KameleonVectorStore) -> None:
    scores = [round(score, 3) for _, score in store.similarity_search_with_score("fox")]
    assert scores == [0.894, 0.707, 0.447]
    ((_, keyword_score),) = store.similarity_search_with_score("lazy", mode="keyword")
    assert 0 < keyword_score <= 1


def test_thresholds_are_cosines(store: KameleonVectorStore) -> None:
    options = {"score_threshold": 0.7, "k": 3}
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs=options)
    assert ids(retriever.invoke("fox")) == ["a", "c"]
    hybrid = KameleonRetriever(search=store.engine, score_threshold=0.8)
    assert ids(hybrid.invoke("fox")) == ["a"]
    assert ids(hybrid.invoke("fox", score_threshold=0.7, k=5)) == ["a", "c"]


def test_filters_are_of_the_metadata(store: KameleonVectorStore) -> None:
    assert ids(store.similarity_search("fox", filter={"year": {"$gt": 2020}})) == ["c", "b"]
    assert ids(store.similarity_search("fox", filter={"tag.name": "x"})) == ["a"]
    assert ids(store.similarity_search("fox", filter={"pages": 2})) == ["c"]
    assert ids(store.similarity_search("fox", filter={"id": {"$in": ["b", "c"]}})) == ["c", "b"]
    assert store.similarity_search("fox", filter={"year": 1999}) == []
    store.add_texts(["old fox"], [{"id": 7}])
    assert store.similarity_search("fox", filter={"id": 7}) == []
    (found,) = store.similarity_search("fox", filter={"$not": [{".metadata.id": None}, {"year": 1999}]})
    assert found.metadata == {"id": 7}


def test_documents_are_read_and_deleted_by_id(store: KameleonVectorStore) -> None:
    assert store.get_by_ids(["c", "missing", "a"]) == [DOCUMENTS[2], DOCUMENTS[0]]
    assert store.delete(["a", "missing"])
    assert store.delete(filter={"year": 2021})
    assert ids(store.similarity_search("fox")) == ["c"]
    assert store.delete()
    assert store.similarity_search("fox") == []


def test_a_document_of_a_stored_id_replaces_it(store: KameleonVectorStore) -> None:
    assert store.add_texts(["lazy fox", "new dog"], [{"year": 1}, {}], ids=["a", "d"]) == ["a", "d"]
    assert store.get_by_ids(["a"]) == [Document(id="a", page_content="lazy fox", metadata={"year": 1})]
    assert store.records.count("documents") == 4


def test_documents_without_ids_get_them(store: KameleonVectorStore) -> None:
    given = [Document(page_content="one fox"), Document(id="own", page_content="two"), Document(page_content="three")]
    added = store.add_documents(given, batch_size=2)
    assert added[1] == "own"
    assert [document.page_content for document in store.get_by_ids(added)] == ["one fox", "two", "three"]
    assert given[0].id is None
    assert store.add_documents(given[1:2], ids=["given"]) == ["given"]
    with pytest.raises(ValueError, match="ids has 3 places for 2"):
        store.add_texts(["one", "two"], ids=["1", "2", "3"])


@pytest.mark.parametrize("lambda_mult", [0.0, 0.3, 0.5, 1.0])
def test_marginal_relevance_is_langchains(make: Make, lambda_mult: float) -> None:
    texts = [f"{'fox ' * (number % 7)}{'dog ' * (number % 5)}" for number in range(1, 52)]
    store = KameleonVectorStore(make(provider(Planar())))
    store.add_texts(texts, ids=[f"{number:02}" for number in range(51)])
    near = store.similarity_search_by_vector([1.0, 0.0], k=20)
    vectors = Planar().embed_documents([document.page_content for document in near])
    best = maximal_marginal_relevance(np.array([1.0, 0.0]), vectors, lambda_mult, k=5)
    found = store.max_marginal_relevance_search("fox", k=5, lambda_mult=lambda_mult)
    directions = {tuple(vectors[place]) for place in best}
    assert {tuple(Planar().embed_documents([document.page_content])[0]) for document in found} == directions
    assert store.max_marginal_relevance_search_by_vector([1.0, 0.0], k=5, lambda_mult=lambda_mult) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [({"ids": ["1"]}, "ids has 1 places for 2 documents"), ({"metadatas": [{}]}, "metadatas has 1 places for 2 ")],
)
def test_a_list_of_another_length_is_refused(store: KameleonVectorStore, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        store.add_texts(["one", "two"], **given)
    if "ids" in given:
        with pytest.raises(InvalidInput, match=message):
            store.add_documents([Document("one"), Document("two")], **given)
    assert store.records.count(store.entity) == 3


def test_vectors_at_hand_are_stored(store: KameleonVectorStore) -> None:
    store.add_texts(["a text of neither"], ids=["e"], embeddings=[[1.0, 0.0]])
    assert ids(store.similarity_search("fox", k=1)) == ["e"]


def test_a_store_in_a_session_is_in_its_transaction(make: Make) -> None:
    class Base(DeclarativeBase):
        pass

    class Source(Base):
        __tablename__ = "langchain_source"
        id: Mapped[int] = mapped_column(primary_key=True)

    search = make(provider(Planar()))
    store = KameleonVectorStore(search)
    Base.metadata.create_all(search.engine)
    with Session(search.engine) as session:
        session.add(Source(id=1))
        inside = store.in_session(session)
        inside.add_documents(DOCUMENTS)
        inside.delete(["b"])
        assert ids(inside.similarity_search("fox")) == ["a", "c"]
        assert ids(inside.get_by_ids(["a", "b"])) == ["a"]
        session.rollback()
        assert session.get(Source, 1) is None
    assert store.get_by_ids(["a", "c"]) == []
    with Session(search.engine) as session, session.begin():
        session.add(Source(id=1))
        store.in_session(session).add_documents(DOCUMENTS)
    assert ids(store.similarity_search("fox", k=1)) == ["a"]
    Base.registry.dispose()


def test_coroutines_await_the_embedding(make: Make) -> None:
    embedding = Awaited()
    store = KameleonVectorStore(make(provider(embedding)))

    async def use() -> None:
        assert await store.aadd_documents(DOCUMENTS) == ["a", "b", "c"]
        assert ids(await store.asimilarity_search("fox", k=1)) == ["a"]
        ((_, score),) = await store.asimilarity_search_with_relevance_scores("fox", k=1)
        assert score == pytest.approx(0.894, abs=0.001)
        assert ids(await store.asimilarity_search_by_vector([0.0, 1.0], k=1)) == ["b"]
        assert len(await store.amax_marginal_relevance_search("fox", k=2)) == 2
        assert await store.aget_by_ids(["b"]) == DOCUMENTS[1:2]
        assert await store.adelete(["b"])
        assert ids(await KameleonRetriever(search=store.engine).ainvoke("fox")) == ["a", "c"]

    asyncio.run(use())
    assert embedding.calls >= 2


CLEANED = {None: 4, "incremental": 3, "full": 2, "scoped_full": 3}
"""How many documents are left of three, of two sources, where one of the first is changed and given alone."""


@pytest.mark.parametrize("cleanup", CLEANED)
@pytest.mark.parametrize("is_awaited", [False, True])
def test_the_indexing_api_cleans_up(make: Make, cleanup: Any, is_awaited: bool) -> None:
    store = KameleonVectorStore(make(provider(Planar())))
    manager = InMemoryRecordManager("documents")
    manager.create_schema()

    def indexed(documents: list[Document]) -> Any:
        options = {"cleanup": cleanup, "source_id_key": "source", "key_encoder": "sha256"}
        if is_awaited:
            return asyncio.run(aindex(documents, manager, store, **options))
        return index(documents, manager, store, **options)

    first = [Document(page_content=text, metadata={"source": text[0]}) for text in ("a fox", "a dog", "b fox")]
    assert indexed(first)["num_added"] == 3
    assert indexed(first)["num_skipped"] == 3
    changed = [Document(page_content="a new fox", metadata={"source": "a"}), first[1]]
    report = indexed(changed)
    assert (report["num_added"], report["num_skipped"]) == (1, 1)
    left = store.records.count("documents")
    assert left == 4 - report["num_deleted"] == CLEANED[cleanup]


def test_the_retriever_takes_filters_and_diversity(store: KameleonVectorStore) -> None:
    retriever = KameleonRetriever(search=store.engine, k=2, mode="vector", filter={"year": {"$lt": 2022}})
    assert ids(retriever.invoke("fox")) == ["a", "b"]
    assert ids(retriever.invoke("fox", filter={"year": 2022})) == ["c"]
    nearest = KameleonRetriever(search=store.engine, mode="vector")
    assert ids(nearest.invoke("fox")) == ["a", "c", "b"]
    assert ids(nearest.invoke("fox", diversity=0.9)) == ["a", "b", "c"]
    weighted = KameleonRetriever(search=store.engine, options={"weight": 0.0, "min_score": 0.2})
    assert ids(weighted.invoke("lazy")) == ["b"]


def test_the_retriever_reads_mapped_classes(make: Make) -> None:
    class Base(DeclarativeBase):
        pass

    @kameleon.searchable(fields={"title": 2, "body": 1})
    class Leaflet(Base):
        __tablename__ = "langchain_leaflet"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        body: Mapped[str]
        status: Mapped[str]

    search = make(provider(Planar()))
    Base.metadata.create_all(search.engine)
    with search.attach(sessionmaker(search.engine)).begin() as session:
        session.add(Leaflet(id=1, title="Of foxes", body="They are red.", status="open"))
        session.add(Leaflet(id=2, title="Of dogs", body="They are lazy.", status="open"))
    retriever = KameleonRetriever(search=search, entity=Leaflet, filter=Leaflet.status == "open", k=1)
    (found,) = retriever.invoke("fox")
    assert (found.id, found.page_content) == ("1", "Of foxes\nThey are red.")
    assert (found.metadata["entity"], found.metadata["status"]) == ("Leaflet", "open")
    Base.registry.dispose()


def test_an_embedding_is_for_an_engine_of_sqlalchemy(make: Make, engine: Engine) -> None:
    search = make("static")
    with pytest.raises(InvalidInput, match="leave the embedding out"):
        KameleonVectorStore(search, embedding=Planar())
    own = KameleonVectorStore.from_documents(DOCUMENTS, Planar(), search=engine, entity="own")
    assert own.embeddings is not None
    assert ids(own.similarity_search("fox", k=1)) == ["a"]
    assert KameleonVectorStore(search).embeddings is None


def test_an_entity_of_another_shape_is_refused(make: Make) -> None:
    search = make(provider(Planar()))
    RecordStore(search).create_entity("Shelf", search=["title"])
    with pytest.raises(InvalidInput, match="Name another entity"):
        KameleonVectorStore(search, "Shelf")
    RecordStore(search).create_entity("Plain", search=["text"])
    with pytest.raises(InvalidInput, match="begin in the record, not in metadata"):
        KameleonVectorStore(search, "Plain")
    RecordStore(search).create_entity(
        "Typed", search={"text": 2}, filters="metadata", fields={"metadata.year": "integer"}
    )
    store = KameleonVectorStore(search, "Typed")
    store.add_documents(DOCUMENTS)
    assert ids(store.similarity_search("fox", filter={"year": {"$gte": 2021}})) == ["c", "b"]


def test_a_store_of_a_tenant_has_its_documents_alone(make: Make) -> None:
    search = make(provider(Planar()))
    RecordStore(search).create_entity("Owned", search=["text"], filters="metadata", tenant_field="")
    one, other = (KameleonVectorStore(search.for_tenant(tenant), "Owned") for tenant in ("one", "other"))
    one.add_documents(DOCUMENTS)
    other.add_documents(DOCUMENTS[1:])
    assert ids(other.similarity_search("fox")) == ["c", "b"]
    other.delete()
    assert ids(one.similarity_search("fox")) == ["a", "c", "b"]


def test_the_example_finds_its_notes(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "langchain_notes.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "salary overdue: Wages of March were not paid.",
        "E-4711: The login page times out, error E-4711.",
        "chairs, after a rollback: New chairs were ordered.",
    ]
    assert lines[4:] == [
        "Human: Answer from these notes:",
        "Wages of March were not paid.",
        "",
        "Question: who was not paid?",
    ]


@pytest.mark.parametrize(("name", "package"), [("langchain", "langchain_core"), ("langgraph", "langgraph.store.base")])
def test_an_adapter_names_the_extra_that_is_missing(name: str, package: str) -> None:
    blocked = f"import sys; sys.modules[{package!r}] = None"
    code = f"{blocked}; import kameleon.integrations; import kameleon.integrations.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"pip install 'kameleon[{name}]'" in done.stderr.splitlines()[-1]


def test_kameleon_alone_loads_no_framework() -> None:
    names = "('langchain', 'langgraph', 'llama_index', 'haystack', 'pydantic')"
    code = f"import sys, kameleon, kameleon.integrations; print([m for m in sys.modules if m.startswith({names})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
