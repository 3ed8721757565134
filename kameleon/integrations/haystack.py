"""Haystack's document store and its retrievers: documents as records of an entity. Imports `database`, `embeddings`,
`engine`, `errors`, `records` and `tenants`."""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from sqlalchemy import make_url

from ..database import create_engine
from ..embeddings import GivenVectors
from ..engine import SearchEngine
from ..errors import InvalidInput, MissingExtra, RecordExists
from ..records import Record
from ..records.rows import OnConflict
from ..tenants import ForTenant
from .adapting import MAX_LIMIT, Adapter, awaited

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
    from haystack.utils import Secret
except ImportError as _error:
    raise MissingExtra("haystack-ai", "haystack") from _error

from .haystack_filters import condition

ON_CONFLICT: dict[str, OnConflict] = {"none": "error", "fail": "error", "skip": "ignore", "overwrite": "replace"}
TYPES = {bool: "boolean", int: "int", float: "float"}


class KameleonDocumentStore(Adapter):
    """Documents as records of an entity, which is made where it is missing: `content`, which keywords search, `meta`,
    and what else a document has. `database` is a SearchEngine or its `for_tenant`; or a URL, in a Secret where it has a
    password: then `model` names the model of the embeddings that documents bring, or `provider` the one that embeds."""

    def __init__(
        self,
        database: SearchEngine | ForTenant | Secret | str,
        entity: str = "documents",
        *,
        model: str | None = None,
        provider: str | None = None,
    ) -> None:
        self.settings: dict[str, Any] = {"database": database, "entity": entity, "model": model, "provider": provider}
        url: Any = database.resolve_value() if isinstance(database, Secret) else database
        if sum(value is not None for value in (model, provider)) > isinstance(url, str):
            raise InvalidInput("a URL takes model= or provider=; a SearchEngine has its own provider: leave both out")
        given = provider if model is None else GivenVectors(model)
        engine = SearchEngine(create_engine(url), given) if isinstance(url, str) else url
        self._open(engine, entity, "content", {"meta": "object"})

    def to_dict(self) -> dict[str, Any]:
        """Raises InvalidInput where the database is no URL, or one with a password."""
        database = self.settings["database"]
        if not isinstance(database, Secret) and (not isinstance(database, str) or make_url(database).password):
            raise InvalidInput(
                "a store is saved by its URL: KameleonDocumentStore(Secret.from_env_var('DATABASE_URL'))"
            )
        return default_to_dict(self, **self.settings)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "KameleonDocumentStore":
        return default_from_dict(cls, data)

    def count_documents(self) -> int:
        return int(self._call("count"))

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        return int(self._call("count", where=condition(filters)))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """By id, with their embeddings."""
        ids = [record.id for record in self._listed(filters)]
        found = self._call("get_many", ids, vectors=True)
        return [_document(record.id, record.data, record.vector) for record in found]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """A document without an embedding is left pending; where none has one, the engine's provider embeds all."""
        if not isinstance(documents, list) or not all(isinstance(one, Document) for one in documents):
            raise ValueError("write_documents takes a list of Documents")
        rows = [one.to_dict(flatten=False) for one in documents]
        given = [row.pop("embedding") for row in rows]
        kept = [{name: value for name, value in row.items() if value is not None and name != "score"} for row in rows]
        embeddings = None if all(embedding is None for embedding in given) else given
        try:
            report = self._call("insert", kept, on_conflict=ON_CONFLICT[policy.value], embeddings=embeddings)
        except RecordExists as error:
            stored = f"{str(error).partition('; ')[0]}; nothing of this call was stored"
            raise DuplicateDocumentError(f"{stored}. To write it, policy=DuplicatePolicy.OVERWRITE or SKIP") from error
        return len(documents) - int(report.skipped)

    def delete_documents(self, document_ids: list[str]) -> None:
        self._call("delete", document_ids)

    def delete_all_documents(self) -> None:
        self._call("delete", where={})

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        return int(self._call("delete", where=condition(filters, is_needed=True)))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set these fields of the metadata of the documents that match; their other fields stay as they are read."""
        found = self._call("list", where=condition(filters, is_needed=True), limit=MAX_LIMIT)
        rows = [{"id": record.id, "meta": {**record.data.get("meta", {}), **meta}} for record in found]
        return int(self._call("insert", rows, on_conflict="merge").updated)

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Reads all documents that match, as do the three below."""
        return {name.removeprefix("meta."): len(_unique(self._values(name, filters))) for name in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        metas = [record.data.get("meta", {}) for record in self._listed()]
        values = {name: value for meta in metas for name, value in meta.items() if value is not None}
        return {name: {"type": TYPES.get(type(value), "keyword")} for name, value in values.items()}

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Of numbers, or of texts where it has no numbers."""
        values = self._values(metadata_field)
        numbers = [value for value in values if isinstance(value, int | float)]
        ordered: list[Any] = numbers or [value for value in values if isinstance(value, str)]
        return {"min": min(ordered, default=None), "max": max(ordered, default=None)}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Values by their texts, and how many there are; those that contain `search_term`, in any case."""
        found = sorted(_unique(self._values(metadata_field, filters)), key=lambda value: (str(value), str(type(value))))
        found = [value for value in found if (search_term or "").lower() in str(value).lower()]
        return found[from_ : from_ + size], len(found)

    def _listed(self, filters: dict[str, Any] | None = None) -> list[Record]:
        listed: list[Record] = self._call("list", where=condition(filters), limit=MAX_LIMIT)
        return listed

    def _values(self, field: str, filters: dict[str, Any] | None = None) -> list[Any]:
        values = [record.data.get("meta", {}).get(field.removeprefix("meta.")) for record in self._listed(filters)]
        return [value for value in values if value is not None]

    count_documents_async, filter_documents_async = awaited(count_documents), awaited(filter_documents)
    write_documents_async, delete_documents_async = awaited(write_documents), awaited(delete_documents)
    delete_all_documents_async, delete_by_filter_async = awaited(delete_all_documents), awaited(delete_by_filter)
    update_by_filter_async = awaited(update_by_filter)
    count_documents_by_filter_async = awaited(count_documents_by_filter)
    count_unique_metadata_by_filter_async = awaited(count_unique_metadata_by_filter)
    get_metadata_fields_info_async = awaited(get_metadata_fields_info)
    get_metadata_field_min_max_async = awaited(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = awaited(get_metadata_field_unique_values)


class _Retriever:
    """Finds the `top_k` best documents that match the filters. `options` are those of kameleon's search, such as
    {"min_similarity": 0.3}; with {"vectors": True} documents have their embeddings."""

    def __init__(
        self,
        document_store: KameleonDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy | str = FilterPolicy.REPLACE,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.document_store, self.filters, self.top_k, self.options = document_store, filters, top_k, options
        self.filter_policy = FilterPolicy(filter_policy)

    @property
    def _engine(self) -> SearchEngine | ForTenant:
        engine: SearchEngine | ForTenant = self.document_store.engine
        return engine

    @property
    def _session(self) -> Any:
        return self.document_store._session

    def in_session(self, session: Any) -> "_Retriever":
        inside = copy(self)
        inside.document_store = self.document_store.in_session(session)
        return inside

    def to_dict(self) -> dict[str, Any]:
        policy, store = self.filter_policy.value, self.document_store
        settings = {"filters": self.filters, "top_k": self.top_k, "options": self.options}
        return default_to_dict(self, document_store=store, filter_policy=policy, **settings)

    def _found(
        self, query: str, filters: dict[str, Any] | None, top_k: int | None, **ranked_by: Any
    ) -> dict[str, list[Document]]:
        store = self.document_store
        where = condition(apply_filter_policy(self.filter_policy, self.filters, filters))
        options = {"where": where, "limit": self.top_k if top_k is None else top_k, **ranked_by}
        hits = store._hits(query, **options, **(self.options or {}))
        scores = [hit.similarity if ranked_by["mode"] == "vector" else hit.score for hit in hits]
        found = zip(hits, scores, strict=True)
        return {"documents": [_document(hit.id, hit.data or {}, hit.vector, score) for hit, score in found]}


@component
class KameleonEmbeddingRetriever(_Retriever):
    """By the embedding of the query. A score is the cosine."""

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        return self._found("", filters, top_k, mode="vector", vector=query_embedding)

    run_async = awaited(run)


@component
class KameleonKeywordRetriever(_Retriever):
    """By the words of the query (BM25). A score is from 0 to 1, and is relative to the query."""

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        return self._found(query, filters, top_k, mode="keyword")

    run_async = awaited(run)


@component
class KameleonHybridRetriever(_Retriever):
    """By words and embedding, fused to a score from 0 to 1; without `query_embedding` by the engine's own model."""

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        query_embedding: list[float] | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        return self._found(query, filters, top_k, mode="hybrid", vector=query_embedding)

    run_async = awaited(run)


def _document(
    id_: str, data: Mapping[str, Any], vector: Sequence[float] | None, score: float | None = None
) -> Document:
    embedding = None if vector is None else list(vector)
    return Document.from_dict({**data, "id": id_, "embedding": embedding, "score": score})


def _unique(values: Sequence[Any]) -> list[Any]:
    """1, 1.0, true and "1" are four."""
    return list({(type(value), json.dumps(value, sort_keys=True)): value for value in values}.values())
