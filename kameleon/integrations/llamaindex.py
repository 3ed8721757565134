"""LlamaIndex's vector store: nodes and their embeddings as records of an entity. Imports `errors`, `engine`, `records`,
`tenants` and `values`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..engine import SearchEngine
from ..errors import InvalidInput, MissingExtra
from ..records import RecordStore
from ..tenants import ForTenant
from ..values import SearchResults
from .adapting import MAX_LIMIT, Adapter, awaited

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores import types
    from llama_index.core.vector_stores.types import FilterOperator, MetadataFilters, VectorStoreQuery
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as _error:
    raise MissingExtra("llama-index-core", "llamaindex") from _error

LIKE_KAMELEONS = ("EQ", "NE", "GT", "GTE", "LT", "LTE", "IN", "NIN", "ANY", "ALL", "CONTAINS")
OPERATORS = {FilterOperator[name]: f"${name.lower()}" for name in LIKE_KAMELEONS}
OPERATORS |= {FilterOperator.TEXT_MATCH: "$contains", FilterOperator.TEXT_MATCH_INSENSITIVE: "$icontains"}
MODES = {"sparse": "keyword", "text_search": "keyword", "hybrid": "hybrid", "default": "vector", "mmr": "vector"}


class KameleonVectorStore(Adapter, types.BasePydanticVectorStore):
    """Nodes as records of an entity, which is made where it is missing: each has `text`, which keywords search,
    `metadata`, `ref_doc_id`, and what else there is of it in `node`. `search` is a SearchEngine or its `for_tenant`;
    its provider names the model of the nodes' embeddings: `GivenVectors(model_name)` where LlamaIndex runs it.

    Keyword arguments of a verb go to kameleon's: `add(nodes, session=session)`, `query(…, min_similarity=0.3)`.
    """

    stores_text: bool = True
    entity: str
    _engine: SearchEngine | ForTenant = PrivateAttr()
    _records: RecordStore = PrivateAttr()
    _session: Any = PrivateAttr(default=None)

    def __init__(self, search: SearchEngine | ForTenant, entity: str = "nodes") -> None:
        super().__init__(entity=entity)  # type: ignore[call-arg]
        self._open(search, entity, "text", {"metadata": "object", "ref_doc_id": "text"})

    @property
    def client(self) -> SearchEngine | ForTenant:
        return self._engine

    def add(self, nodes: Sequence[BaseNode], **options: Any) -> list[str]:
        """Store nodes, in place of those with their ids. One without an embedding is left pending; where none has one,
        the engine's provider embeds all."""
        given = [node.embedding for node in nodes]
        embeddings = None if all(embedding is None for embedding in given) else given
        how = {"on_conflict": "replace", "embeddings": embeddings, **options}
        self._call("insert", [_record(node) for node in nodes], **how)
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **options: Any) -> None:
        self._call("delete", where={"ref_doc_id": ref_doc_id}, **options)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **options: Any
    ) -> None:
        """Delete the nodes of these ids that match the filters; without either, none."""
        if where := _where(filters, id=node_ids):
            self._call("delete", where=where, **options)

    def clear(self, **options: Any) -> None:
        self._call("delete", where={}, **options)

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **options: Any
    ) -> list[BaseNode]:
        """With their embeddings, in the order of `node_ids`, or by id."""
        listed = self._call("list", where=_where(filters, id=node_ids), limit=MAX_LIMIT, **options)
        found = self._call("get_many", [record.id for record in listed], vectors=True, **options)
        place = {id_: place for place, id_ in enumerate(node_ids or ())}
        found.sort(key=lambda record: place.get(record.id, 0))
        return [_node(record.data, record.vector) for record in found]

    async_add, adelete, adelete_nodes = awaited(add), awaited(delete), awaited(delete_nodes)
    aclear, aget_nodes = awaited(clear), awaited(get_nodes)

    def query(self, query: VectorStoreQuery, **options: Any) -> types.VectorStoreQueryResult:
        """`similarities` are the cosines of DEFAULT and MMR, the scores (0..1) of the other modes."""
        return _result(query, self._hits(**_asked(query, options), **options))

    aquery = awaited(query)


def _asked(query: VectorStoreQuery, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a search; those that are not of a search are taken out of `options`. Raises InvalidInput for a
    mode that there is not, or without what it needs."""
    name = types.VectorStoreQueryMode(query.mode).value
    mode = MODES.get(name)
    text = "" if mode == "vector" else query.query_str
    if mode is None or text is None or (mode == "vector" and query.query_embedding is None):
        known = "default and mmr take query_embedding, sparse, text_search and hybrid query_str"
        raise InvalidInput(f"this query of the mode {name} cannot be answered: {known}")
    # A retriever of an index gives [] where its nodes are in the store alone.
    where = _where(query.filters, id=query.node_ids or None, ref_doc_id=query.doc_ids)
    tops = {"sparse": query.sparse_top_k, "hybrid": query.hybrid_top_k}
    limit = tops.get(name) or query.similarity_top_k
    made: dict[str, Any] = {"query": text, "mode": mode, "where": where, "limit": limit}
    threshold = options.pop("mmr_threshold", query.mmr_threshold)
    if mode != "keyword":
        made |= {"vector": query.query_embedding, "weight": query.alpha if mode == "hybrid" else None}
    if query.mode == types.VectorStoreQueryMode.MMR:
        made["diversity"] = 1 - (0.5 if threshold is None else threshold)
    return made


def _where(filters: MetadataFilters | None, **ids: Sequence[str] | None) -> dict[str, Any]:
    members: list[dict[str, Any]] = [{key: {"$in": list(these)}} for key, these in ids.items() if these is not None]
    members += [_condition(filters)] if filters is not None and filters.filters else []
    return {"$and": members} if members else {}


def _condition(filters: MetadataFilters) -> dict[str, Any]:
    members = [_condition(one) if isinstance(one, MetadataFilters) else _comparison(one) for one in filters.filters]
    either = filters.condition in (types.FilterCondition.OR, types.FilterCondition.NOT)
    joined = {"$or" if either else "$and": members}
    return {"$not": joined} if filters.condition == types.FilterCondition.NOT else joined


def _comparison(one: types.MetadataFilter) -> dict[str, Any]:
    name = "metadata." + one.key.replace("\\", "\\\\").replace(".", "\\.")
    is_empty = one.operator == FilterOperator.IS_EMPTY
    return {name: {"$in": [None, "", []]} if is_empty else {OPERATORS[one.operator]: one.value}}


def _record(node: BaseNode) -> dict[str, Any]:
    stored = node_to_metadata_dict(node, remove_text=True)
    return {
        "id": node.node_id,
        "text": node.get_content(),
        "ref_doc_id": node.ref_doc_id,
        "metadata": node.model_dump(mode="json", include={"metadata"})["metadata"],
        "node": {key: stored[key] for key in ("_node_content", "_node_type")},
    }


def _node(data: Mapping[str, Any], vector: Sequence[float] | None) -> BaseNode:
    node = metadata_dict_to_node(data["node"], text=data["text"])
    node.embedding = None if vector is None else list(vector)
    return node


def _result(query: VectorStoreQuery, hits: SearchResults) -> types.VectorStoreQueryResult:
    by_vector = MODES[types.VectorStoreQueryMode(query.mode).value] == "vector"
    similarities = [(hit.similarity or 0.0) if by_vector else hit.score for hit in hits]
    nodes = [_node(hit.data or {}, hit.vector) for hit in hits]
    return types.VectorStoreQueryResult(nodes, similarities, [hit.id for hit in hits])
