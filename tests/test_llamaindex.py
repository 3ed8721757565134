"""LlamaIndex's vector store: what the tests of LlamaIndex's own stores state (the in-memory store of its core, those
over PostgreSQL, DuckDB and Chroma), written for ours."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    NodeRelationship,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from sqlalchemy.orm import Session

from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import GivenVectors
from kameleon.errors import InvalidInput
from kameleon.integrations.llamaindex import KameleonVectorStore

from .conftest import Make


def node(id_: str, text: str, embedding: list[float] | None, source: str = "", **metadata: Any) -> TextNode:
    relationships: Any = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)} if source else {}
    return TextNode(id_=id_, text=text, embedding=embedding, relationships=relationships, metadata=metadata)


def some_nodes() -> list[BaseNode]:
    tags: list[list[str]] = [["medium", "high"], ["medium"], ["low", "medium", "high"]]
    return [
        node(
            "a", "lorem ipsum", [1.0, 0.0], "doc-0", weight=1.0, rank="a", tags=tags[0], code="6FTR78Yun", **{"x.y": 1}
        ),
        node("b", "the quick brown fox", [0.0, 1.0], "doc-1", weight=2.0, rank="c", tags=tags[1], code="6FTR78Ygl"),
        node("c", "the fox and the hound", [1.0, 1.0], "doc-1", weight=3.0, rank="c", tags=tags[2], code="6ftr78Ztl"),
        node("d", "lorem ipsum", [0.9, -1.0], "doc-2", empty="", none=None, rank="Über"),
    ]


@pytest.fixture
def store(make: Make) -> KameleonVectorStore:
    store = KameleonVectorStore(make(GivenVectors("two")))
    assert store.add(some_nodes()) == ["a", "b", "c", "d"]
    return store


def found(store: KameleonVectorStore, **query: Any) -> list[str]:
    options = query.pop("options", {})
    query = {"query_embedding": [1.0, 0.9], "similarity_top_k": 10, **query}
    result = store.query(VectorStoreQuery(**query), **options)
    assert [one.node_id for one in result.nodes or ()] == result.ids
    assert result.ids is not None
    return result.ids


def matching(*filters: tuple[str, str, Any], condition: str = "and") -> MetadataFilters:
    members: Any = [MetadataFilter(key=key, operator=FilterOperator(how), value=value) for key, how, value in filters]
    return MetadataFilters(filters=members, condition=FilterCondition(condition))


def test_nodes_come_by_cosine_and_as_they_were_added(store: KameleonVectorStore) -> None:
    result = store.query(VectorStoreQuery(query_embedding=[1.0, 0.9], similarity_top_k=3))
    assert result.ids == ["c", "a", "b"]
    assert result.similarities == pytest.approx([0.9986, 0.7433, 0.6690], abs=1e-4)
    assert result.nodes is not None
    expected = some_nodes()[0]
    got = result.nodes[1]
    assert got.to_dict() == {**expected.to_dict(), "embedding": None}
    assert (got.ref_doc_id, got.metadata["x.y"]) == ("doc-0", 1)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([("rank", "==", "c")], "bc"),
        ([("weight", "==", 2)], "b"),
        ([("weight", "!=", 1.0)], "bcd"),
        ([("weight", ">", 1.5)], "bc"),
        ([("weight", ">=", 1.0)], "abc"),
        ([("weight", "<", 1.1)], "a"),
        ([("weight", "<=", 2.0)], "ab"),
        ([("rank", "in", ["a", "c"])], "abc"),
        ([("rank", "nin", ["c"])], "ad"),
        ([("tags", "contains", "high")], "ac"),
        ([("tags", "any", ["high", "low"])], "ac"),
        ([("tags", "all", ["medium", "high"])], "ac"),
        ([("rank", "any", ["a"])], ""),
        ([("code", "text_match", "6FTR78Y")], "ab"),
        ([("code", "text_match_insensitive", "6ftr78")], "abc"),
        ([("rank", "text_match_insensitive", "ÜBER")], "d"),
        ([("empty", "is_empty", None)], "abcd"),
        ([("weight", "is_empty", None)], "d"),
        ([("none", "is_empty", None)], "abcd"),
        ([("unknown", "==", "c")], ""),
        ([("unknown", "!=", "c"), ("rank", "==", "c")], "bc"),
        ([("x.y", "==", 1)], "a"),
        ([("weight", "==", 2), ("weight", "==", 3)], ""),
    ],
)
def test_every_operator_filters(
    store: KameleonVectorStore, filters: Sequence[tuple[str, str, Any]], expected: str
) -> None:
    assert sorted(found(store, filters=matching(*filters))) == list(expected)


def test_conditions_join_and_nest(store: KameleonVectorStore) -> None:
    either = matching(("rank", "==", "c"), ("weight", "==", 1.0), condition="or")
    assert sorted(found(store, filters=either)) == ["a", "b", "c"]
    assert sorted(found(store, filters=matching(("rank", "==", "a"), ("weight", ">", 2), condition="not"))) == [
        "b",
        "d",
    ]
    nested = MetadataFilters(filters=[either, matching(("tags", "contains", "high"))])
    assert sorted(found(store, filters=nested)) == ["a", "c"]
    assert len(found(store, filters=MetadataFilters(filters=[]))) == 4


def test_ids_of_nodes_and_documents_and_filters_intersect(store: KameleonVectorStore) -> None:
    assert sorted(found(store, doc_ids=["doc-1"])) == ["b", "c"]
    assert found(store, node_ids=["b", "gone"]) == ["b"]
    assert found(store, doc_ids=["doc-1"], node_ids=["a", "b", "c"], filters=matching(("weight", ">", 2))) == ["c"]
    assert found(store, doc_ids=[]) == []
    assert len(found(store, node_ids=[])) == 4  # what the retriever of an index gives


def test_modes_by_words(store: KameleonVectorStore) -> None:
    for mode in (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH):
        assert sorted(found(store, mode=mode, query_str="who is the fox?")) == ["b", "c"]
    few = {"mode": VectorStoreQueryMode.SPARSE, "query_str": "fox", "sparse_top_k": 1}
    assert len(found(store, **few)) == 1
    with pytest.raises(InvalidInput, match="hybrid query_str"):
        found(store, mode=VectorStoreQueryMode.HYBRID)
    with pytest.raises(InvalidInput, match="semantic_hybrid cannot be answered"):
        found(store, mode=VectorStoreQueryMode.SEMANTIC_HYBRID, query_str="fox")


def test_alpha_weighs_words_against_vectors(store: KameleonVectorStore) -> None:
    asked = {"mode": VectorStoreQueryMode.HYBRID, "query_str": "hound", "query_embedding": [1.0, 0.0]}
    assert found(store, **asked, alpha=1.0)[0] == "a"
    assert found(store, **asked, alpha=0.0)[0] == "c"
    assert len(found(store, **asked, hybrid_top_k=1)) == 1


@pytest.mark.parametrize(
    ("threshold", "options", "expected"),
    [
        (0.0, {}, ["a", "c"]),
        (0.25, {}, ["a", "c"]),
        (1.0, {}, ["a", "b"]),
        (1.0, {"mmr_threshold": 0.0}, ["a", "c"]),
        (0.0, {"mmr_threshold": 1.0}, ["a", "b"]),
    ],
)
def test_mmr_prefers_what_is_unlike(
    make: Make, threshold: float, options: dict[str, float], expected: list[str]
) -> None:
    store = KameleonVectorStore(make(GivenVectors("two")))
    store.add([node("a", "", [1.0, 0.0]), node("b", "", [1.0, 0.0]), node("c", "", [0.0, 1.0])])
    asked: dict[str, Any] = {"query_embedding": [1.0, 0.0], "similarity_top_k": 2, "mmr_threshold": threshold}
    assert found(store, **asked, mode=VectorStoreQueryMode.MMR, options=options) == expected


def test_options_of_a_search_are_those_of_a_query(store: KameleonVectorStore) -> None:
    assert found(store, options={"min_similarity": 0.9}) == ["c"]
    with pytest.raises(TypeError, match="where"):
        found(store, options={"where": {}})


def test_nodes_are_read_with_their_embeddings(store: KameleonVectorStore) -> None:
    first, second = store.get_nodes(["c", "gone", "a"])
    assert ([first.node_id, second.node_id], second.embedding) == (["c", "a"], [1.0, 0.0])
    assert [one.node_id for one in store.get_nodes(filters=matching(("rank", "==", "c")))] == ["b", "c"]
    assert [one.node_id for one in store.get_nodes(["a", "b"], matching(("rank", "==", "c")))] == ["b"]
    assert store.get_nodes(["a"], matching(("rank", "==", "c"))) == store.get_nodes([]) == []
    assert len(store.get_nodes()) == 4


def test_nodes_are_deleted_by_document_id_and_filter(store: KameleonVectorStore) -> None:
    store.delete_nodes()
    store.delete_nodes(["gone"])
    store.delete_nodes(filters=MetadataFilters(filters=[]))
    store.delete_nodes([], matching(("rank", "==", "c")))
    assert len(store.get_nodes()) == 4
    store.delete_nodes(["a", "b"], matching(("rank", "==", "c")))
    assert sorted(found(store)) == ["a", "c", "d"]
    store.delete("doc-1")
    assert sorted(found(store)) == ["a", "d"]
    store.delete_nodes(filters=matching(("rank", "==", "a")))
    assert found(store) == ["d"]
    store.clear()
    assert found(store) == []


def test_coroutines_do_the_same(make: Make) -> None:
    store = KameleonVectorStore(make(GivenVectors("two")))

    async def used() -> list[Any]:
        added = await store.async_add(some_nodes())
        best = (await store.aquery(VectorStoreQuery(query_embedding=[1.0, 0.9], similarity_top_k=1))).ids
        await store.adelete_nodes(["a"])
        await store.adelete("doc-1")
        left = [one.node_id for one in await store.aget_nodes()]
        await store.aclear()
        return [added, best, left, await store.aget_nodes()]

    assert asyncio.run(used()) == [["a", "b", "c", "d"], ["c"], ["d"], []]


def test_a_node_of_an_id_is_replaced_and_one_text_has_a_vector_a_node(store: KameleonVectorStore) -> None:
    store.add([node("a", "lorem ipsum", [-1.0, 0.0]), node("e", "lorem ipsum", [0.5, 1.0])])
    assert len(store.get_nodes()) == 5
    assert found(store, query_embedding=[-1.0, 0.0])[0] == "a"
    assert found(store, query_embedding=[0.5, 1.0])[0] == "e"


def test_kinds_of_nodes_come_back_as_they_are(make: Make) -> None:
    store = KameleonVectorStore(make(GivenVectors("two")))
    kinds: list[BaseNode] = [
        IndexNode(id_="1", text="an index", index_id="aaa", embedding=[1.0, 0.0]),
        ImageNode(id_="2", image_url="http://localhost/fox.png", embedding=[0.0, 1.0]),
        TextNode(id_="3", text="a text", embedding=[1.0, 1.0]),
    ]
    store.add(kinds)
    back = store.get_nodes()
    assert [type(one) for one in back] == [IndexNode, ImageNode, TextNode]
    assert isinstance(back[0], IndexNode)
    assert back[0].index_id == "aaa"
    assert isinstance(back[1], ImageNode)
    assert back[1].image_url == "http://localhost/fox.png"
    assert found(store, query_embedding=[0.0, 1.0], similarity_top_k=1) == ["2"]


def test_an_index_retrieves_and_deletes_documents(make: Make) -> None:
    store = KameleonVectorStore(make(GivenVectors("mock")))
    nodes = [node(f"{doc}-{chunk}", f"Document {doc}, chunk {chunk}", None, doc) for doc in "ab" for chunk in range(2)]
    for one in nodes:
        one.embedding = [1.0, float(one.node_id[-1])]
    store.add(nodes)
    index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=2))
    bundle = QueryBundle(query_str="test", embedding=[1.0, 0.0])
    for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        retriever = index.as_retriever(doc_ids=["a"], similarity_top_k=10, vector_store_query_mode=mode)
        assert {one.node.node_id for one in retriever.retrieve(bundle)} == {"a-0", "a-1"}
    index.delete_ref_doc("a")
    assert [one.node_id for one in store.get_nodes()] == ["b-0", "b-1"]


def test_a_documents_nodes_are_replaced_in_one_transaction(store: KameleonVectorStore) -> None:
    engine = store.client.index.engine
    with Session(engine) as session:
        store.delete("doc-1", session=session)
        store.add([node("b2", "another fox", [0.1, 1.0], "doc-1")], session=session)
        assert [one.node_id for one in store.get_nodes(session=session)] == ["a", "b2", "d"]
        session.rollback()
    assert [one.node_id for one in store.get_nodes()] == ["a", "b", "c", "d"]


def test_an_entity_of_other_records_is_refused_and_a_tenants_has_to_exist(search: SearchEngine) -> None:
    RecordStore(search).create_entity("LlamaOther", search=["title"])
    with pytest.raises(InvalidInput, match="'text' is not searched"):
        KameleonVectorStore(search, "LlamaOther")
    with pytest.raises(InvalidInput, match="all tenants"):
        KameleonVectorStore(search.for_tenant("t"))


def test_tenants_have_nodes_of_their_own(make: Make) -> None:
    search = make(GivenVectors("two"))
    RecordStore(search).create_entity("nodes", search=["text"], tenant_field="")
    a, b = (KameleonVectorStore(search.for_tenant(tenant)) for tenant in "ab")
    a.add(some_nodes())
    b.add(some_nodes()[:1])
    assert found(b) == ["a"]
    b.clear()
    assert len(found(a)) == 4


def test_a_mode_may_be_its_name(store: KameleonVectorStore) -> None:
    asked: Any = {"query_embedding": [1.0, 0.9], "similarity_top_k": 3}
    named = store.query(VectorStoreQuery(**asked, mode="mmr"))  # type: ignore[arg-type]
    assert named.ids == store.query(VectorStoreQuery(**asked, mode=VectorStoreQueryMode.MMR)).ids
