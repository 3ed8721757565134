"""The document store and the retrievers of Haystack."""

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.utils import Secret

from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import GivenVectors
from kameleon.errors import InvalidInput
from kameleon.integrations.haystack import (
    KameleonDocumentStore,
    KameleonEmbeddingRetriever,
    KameleonHybridRetriever,
    KameleonKeywordRetriever,
)

from .conftest import Make

DOCUMENTS = [
    Document(id="a", content="red fox", embedding=[1.0, 0.0], meta={"year": 2020, "at": "2025-02-03T12:45:46Z"}),
    Document(id="b", content="lazy dog", embedding=[0.0, 1.0], meta={"year": 2021, "at": "2025-02-03T13:00:00+01:00"}),
    Document(id="c", content="red dog", embedding=[1.0, 1.0], meta={"year": 2022}),
]


@pytest.fixture
def store(make: Make) -> KameleonDocumentStore:
    store = KameleonDocumentStore(make(GivenVectors("two")))
    assert store.write_documents(DOCUMENTS) == 3
    return store


def ids(answer: dict[str, list[Document]]) -> list[str]:
    return [document.id for document in answer["documents"]]


def test_documents_are_found_by_embedding_by_words_and_by_both(store: KameleonDocumentStore) -> None:
    by_embedding = KameleonEmbeddingRetriever(store, top_k=2).run([1.0, 0.1])
    assert ids(by_embedding) == ["a", "c"]
    assert [document.score for document in by_embedding["documents"]] == pytest.approx([0.995, 0.774], abs=1e-3)
    (*_, opposite) = KameleonEmbeddingRetriever(store).run([-1.0, 0.0])["documents"]
    assert opposite.id == "a"
    assert opposite.score == pytest.approx(-1.0)
    assert ids(KameleonKeywordRetriever(store).run("fox")) == ["a"]
    assert ids(KameleonHybridRetriever(store, top_k=1).run("dog", [0.0, 1.0])) == ["b"]
    assert ids(KameleonHybridRetriever(store, top_k=1, options={"weight": 0.0}).run("fox", [0.0, 1.0])) == ["a"]


def test_coroutines_answer_the_same(store: KameleonDocumentStore) -> None:
    async def answers() -> list[list[str]]:
        return [
            ids(await KameleonEmbeddingRetriever(store).run_async([1.0, 0.1])),
            ids(await KameleonKeywordRetriever(store).run_async(query="dog", top_k=1)),
            ids(await KameleonHybridRetriever(store).run_async("fox", [1.0, 0.0], top_k=1)),
            [document.id for document in await store.filter_documents_async()],
        ]

    assert asyncio.run(answers()) == [["a", "c", "b"], ["b"], ["a"], ["a", "b", "c"]]


def test_filters_of_a_run_replace_or_join_those_of_the_retriever(store: KameleonDocumentStore) -> None:
    early = {"field": "meta.year", "operator": "<", "value": 2022}
    late = {"field": "meta.year", "operator": ">", "value": 2020}
    replacing = KameleonEmbeddingRetriever(store, filters=early)
    assert ids(replacing.run([1.0, 0.1])) == ["a", "b"]
    assert ids(replacing.run([1.0, 0.1], late)) == ["c", "b"]
    both = {"operator": "AND", "conditions": [early]}
    joining = KameleonEmbeddingRetriever(store, filters=both, filter_policy=FilterPolicy.MERGE)
    assert ids(joining.run([1.0, 0.1], {"operator": "AND", "conditions": [late]})) == ["b"]


def test_options_of_a_search_are_those_of_a_retriever(store: KameleonDocumentStore) -> None:
    retriever = KameleonEmbeddingRetriever(store, options={"min_similarity": 0.9, "vectors": True})
    (only,) = retriever.run([1.0, 0.1])["documents"]
    assert (only.id, only.embedding) == ("a", [1.0, 0.0])


def test_texts_that_are_dates_are_compared_as_the_moments_that_they_are(store: KameleonDocumentStore) -> None:
    later = {"field": "meta.at", "operator": ">=", "value": "2025-02-03T12:45:46+00:00"}
    assert [document.id for document in store.filter_documents(later)] == ["a"]
    with pytest.raises(FilterError, match="number or a date"):
        store.filter_documents({**later, "value": "soon"})
    with pytest.raises(FilterError, match="number or a date"):
        store.filter_documents({**later, "value": True})


def test_the_operators_of_pgvectors_store_are_known(store: KameleonDocumentStore) -> None:
    tags = {"d": ["a", "b"], "e": ["a", "c"], "f": "a", "g": {"a": 1}}
    store.write_documents([Document(id=id_, meta={"tags": value}) for id_, value in tags.items()])

    def found(field: str, operator: str, value: object) -> str:
        filters = {"field": field, "operator": operator, "value": value}
        return "".join(document.id for document in store.filter_documents(filters))

    assert found("content", "like", "red%") == "ac"
    assert found("content", "like", "lazy d__") == "b"
    assert found("content", "not like", "%dog") == "adefg"
    assert found("meta.tags", "array_contains", ["a", "b"]) == "d"
    assert found("meta.tags", "array_overlaps", ["a"]) == "de"
    with pytest.raises(FilterError, match="compares with a list"):
        found("meta.tags", "array_overlaps", "a")


def test_what_needs_filters_refuses_none(store: KameleonDocumentStore) -> None:
    with pytest.raises(FilterError, match="delete_all_documents"):
        store.delete_by_filter({})
    assert store.count_documents() == 3


def test_a_change_of_metadata_keeps_text_and_embedding(store: KameleonDocumentStore) -> None:
    assert store.update_by_filter({"field": "year", "operator": "==", "value": 2020}, {"read": True}) == 1
    (changed,) = store.filter_documents({"field": "meta.read", "operator": "==", "value": True})
    assert (changed.content, changed.embedding) == ("red fox", [1.0, 0.0])
    assert changed.meta == {**DOCUMENTS[0].meta, "read": True}


def test_a_document_without_a_text_is_found_by_its_embedding(store: KameleonDocumentStore) -> None:
    store.write_documents([Document(id="image", embedding=[-1.0, 0.0])])
    assert ids(KameleonEmbeddingRetriever(store, top_k=1).run([-1.0, 0.1])) == ["image"]
    assert store.filter_documents({"field": "content", "operator": "==", "value": None})[0].id == "image"


def test_the_engines_own_model_embeds_documents_and_queries(make: Make, provider: object) -> None:
    store = KameleonDocumentStore(make(provider))
    assert store.write_documents([Document(id="x", content="red fox")], DuplicatePolicy.OVERWRITE) == 1
    (found,) = KameleonHybridRetriever(store).run("red fox")["documents"]
    assert found.id == "x"
    assert store.filter_documents()[0].embedding is not None


def test_an_entity_of_other_records_is_refused(search: SearchEngine) -> None:
    RecordStore(search).create_entity("HaystackOther", search=["title"])
    with pytest.raises(InvalidInput, match="'content' is not searched"):
        KameleonDocumentStore(search, "HaystackOther")


def test_tenants_have_documents_of_their_own(make: Make) -> None:
    search = make(GivenVectors("two"))
    RecordStore(search).create_entity("documents", search=["content"], tenant_field="")
    a, b = (KameleonDocumentStore(search.for_tenant(tenant)) for tenant in "ab")
    a.write_documents(DOCUMENTS[:1])
    b.write_documents(DOCUMENTS)
    assert (a.count_documents(), b.count_documents()) == (1, 3)
    assert ids(KameleonEmbeddingRetriever(a).run([0.0, 1.0])) == ["a"]


def test_a_pipeline_is_saved_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAYSTACK_TEST_URL", f"sqlite:///{tmp_path / 'pipeline.db'}")
    store = KameleonDocumentStore(Secret.from_env_var("HAYSTACK_TEST_URL"), model="two")
    store.write_documents(DOCUMENTS)
    pipeline = Pipeline()
    pipeline.add_component("words", KameleonKeywordRetriever(store, top_k=1, filter_policy="merge"))
    pipeline.add_component("vectors", KameleonEmbeddingRetriever(store, options={"min_similarity": 0.5}))
    pipeline.add_component("both", KameleonHybridRetriever(store))
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["kameleon.integrations.haystack"])
    asked = {
        "words": {"query": "fox"},
        "vectors": {"query_embedding": [1.0, 0.0]},
        "both": {"query": "dog", "top_k": 1},
    }
    assert {name: ids(found) for name, found in loaded.run(asked).items()} == {
        "words": ["a"],
        "vectors": ["a", "c"],
        "both": ["b"],
    }
    for one in (store, vars(loaded.get_component("both"))["document_store"]):
        one.engine.engine.dispose()


def test_an_engine_or_a_password_is_not_saved(search: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match="Secret"):
        KameleonDocumentStore(search).to_dict()
    with pytest.raises(InvalidInput, match="leave both out"):
        KameleonDocumentStore(search, model="two")


def test_more_documents_than_a_statement_reads_come_with_their_embeddings(make: Make) -> None:
    store = KameleonDocumentStore(make(GivenVectors("two")))
    documents = [Document(id=f"{n:04}", content="fox", embedding=[0.0, 1.0], meta={"n": n}) for n in range(1001)]
    assert store.write_documents(documents) == 1001
    assert store.filter_documents() == documents
    assert store.count_documents_by_filter({"field": "meta.n", "operator": ">=", "value": 1000}) == 1
    assert store.get_metadata_field_min_max("n") == {"min": 0, "max": 1000}


def test_an_id_that_is_taken_is_refused_with_the_policies(search: SearchEngine) -> None:
    store = KameleonDocumentStore(search)
    store.write_documents([Document(id="a", content="fox")])
    with pytest.raises(DuplicateDocumentError, match=r"'a' already; .* policy=DuplicatePolicy\.OVERWRITE or SKIP"):
        store.write_documents([Document(id="a", content="dog")])
