"""LangChain: a vector store and a retriever over a SearchEngine. Imports `embeddings`, `engine`, `errors`, `records`
and `values`.

A document is a record with its text in the field `text` and its metadata in the object `metadata`, in which the names
of filters begin.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np

from ..embeddings import CallableProvider
from ..engine import SearchEngine
from ..errors import InvalidInput, MissingExtra, UnknownEntity
from ..records import RecordStore
from ..values import SearchResult
from .twins import Steps, Verb, twins, verb

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore
    from pydantic import Field
except ImportError as _error:
    raise MissingExtra("langchain-core", "langchain") from _error


def provider(embedding: Embeddings, model_name: str | None = None, **limits: Any) -> CallableProvider:
    """The provider that embeds by `embedding`. Its `model_name` is that of the embedding, or else the name of its
    class; `limits` are those of CallableProvider."""
    names = [model_name, getattr(embedding, "model", None), getattr(embedding, "model_name", None)]
    return CallableProvider(
        lambda texts: embedding.embed_documents(list(texts)),
        query=embedding.embed_query,
        adocuments=lambda texts: embedding.aembed_documents(list(texts)),
        aquery=embedding.aembed_query,
        model_name=next((name for name in names if isinstance(name, str)), type(embedding).__name__),
        **limits,
    )


def search_engine(search: Any, embedding: Embeddings | None, model_name: str | None = None) -> Any:
    """The SearchEngine that is given, or that of an SQLAlchemy engine. Raises InvalidInput for two models."""
    if not hasattr(search, "search"):
        return SearchEngine(search, provider(embedding, model_name) if embedding else None)
    if embedding is not None:
        raise InvalidInput(
            "an embedding is for an SQLAlchemy engine; a SearchEngine embeds by its own provider: leave the embedding "
            "out, and make it as SearchEngine(engine, kameleon.integrations.langchain.provider(embedding))"
        )
    return search


class KameleonVectorStore(VectorStore):
    """Documents of an entity, which is made where it is missing. `search` is a SearchEngine or its `for_tenant`; or an
    SQLAlchemy engine, of which a SearchEngine is made that embeds by `embedding`. Raises InvalidInput for an entity of
    another shape.

    Searches are by vector and take SearchOptions: mode="hybrid" ranks by keywords, too. A score is the cosine, of a
    record without a vector 0, and with mode="keyword" that of the hit; relevance is the score within 0 and 1.
    """

    def __init__(self, search: Any, entity: str = "documents", *, embedding: Embeddings | None = None) -> None:
        self.engine = search_engine(search, embedding)
        self.entity, self.records = entity, RecordStore(self.engine)
        self._embedding, self._within = embedding, dict[str, Any]()
        try:
            found = self.records.entity(entity)
        except UnknownEntity:
            found = self.records.create_entity(entity, search=["text"], filters="metadata", exist_ok=True)
        if found.filters != "metadata":
            raise InvalidInput(
                f"the filters of {entity} begin in {found.filters or 'the record'}, not in metadata: name another "
                "entity, or declare it by create_entity(…, search=['text'], filters='metadata')"
            )

    @classmethod
    def from_texts(  # type: ignore[override]
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        search: Any,
        entity: str = "documents",
        **options: Any,
    ) -> Self:
        """A store with these texts; `search`, `entity` and `embedding` as in the constructor."""
        store = cls(search, entity, embedding=embedding)
        store.add_texts(texts, metadatas, **options)
        return store

    @property
    def embeddings(self) -> Embeddings | None:
        return self._embedding

    def in_session(self, session: Any) -> Self:
        """The store inside the transaction of a session, which commits nothing; of an AsyncSession for coroutines."""
        store = copy(self)
        store._within = {"session": session}
        return store

    @twins
    def add_documents(  # type: ignore[override]
        self,
        documents: list[Document],
        *,
        ids: Sequence[str | None] | None = None,
        embeddings: Sequence[Any] | None = None,
        batch_size: int | None = None,
    ) -> Steps[list[str]]:
        """Store documents, replacing those of their ids, and return the ids: those of `ids`, or their own, or random
        ones. In one transaction, or in one for each `batch_size` of them. `embeddings` are vectors at hand, one a
        document."""
        ids = [document.id for document in documents] if ids is None else ids
        records = [as_record(document, key) for document, key in zip(documents, ids, strict=True)]
        added, size = list[str](), batch_size or len(records) or 1
        for part in (slice(start, start + size) for start in range(0, len(records), size)):
            given = None if embeddings is None else embeddings[part]
            verb = self._record_verb("insert", records[part], embeddings=given, on_conflict="replace")
            added += (yield verb).ids
        return added

    @twins
    def delete(  # type: ignore[override]
        self, ids: list[str] | None = None, *, filter: Mapping[str, Any] | None = None
    ) -> Steps[bool]:
        """Delete documents by id, or those of `filter`; without both, all."""
        yield self._record_verb("delete", ids, where={} if ids is None and filter is None else filter)
        return True

    @twins
    def get_by_ids(self, ids: Sequence[str], /) -> Steps[list[Document]]:
        return [as_document(record) for record in (yield self._record_verb("get_many", ids))]

    @twins
    def similarity_search(self, query: str, k: int = 4, **options: Any) -> Steps[list[Document]]:
        return [as_document(hit) for hit in (yield self._search_verb(query, k=k, **options))]

    @twins
    def similarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> Steps[list[tuple[Document, float]]]:
        hits = yield self._search_verb(query, k=k, **options)
        is_keyword = options.get("mode") == "keyword"
        return [(as_document(hit), hit.score if is_keyword else hit.similarity or 0.0) for hit in hits]

    @twins
    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **options: Any) -> Steps[list[Document]]:
        return [as_document(hit) for hit in (yield self._search_verb(k=k, vector=embedding, **options))]

    @twins
    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> Steps[list[Document]]:
        return diverse((yield self._search_verb(query, k=fetch_k, vectors=True, **options)), k, lambda_mult)

    @twins
    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> Steps[list[Document]]:
        hits = yield self._search_verb(k=fetch_k, vector=embedding, vectors=True, **options)
        return diverse(hits, k, lambda_mult)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: min(1.0, max(0.0, score))

    def _search_verb(self, query: str = "", **options: Any) -> Verb:
        own = {"entity": self.entity, "mode": "vector", **self._within}
        return verb(self.engine, "search", query, **search_options(**{**own, **options}))

    def _record_verb(self, name: str, *args: Any, **options: Any) -> Verb:
        return verb(self.records, name, self.entity, *args, **options, **self._within)


class KameleonRetriever(BaseRetriever):
    """The best documents for a query, of a vector store's entity or of any others that `search` has: stored records,
    mapped classes and tables. Of these the text is what matched, and the metadata are the fields and the entity.

    `search` is a SearchEngine or its `for_tenant`; `mode`, `diversity` and `options` are those of its searches;
    `filter` is their `where`, `score_threshold` their `min_similarity`: the least cosine. Each may be given to
    `invoke`, too. With a `session` searches are in its transaction.
    """

    search: Any
    entity: Any = "documents"
    k: int = 4
    mode: str = "hybrid"
    filter: Any = None
    score_threshold: float | None = None
    diversity: float = 0.0
    session: Any = None
    options: Mapping[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(self, query: str, *, run_manager: Any, **given: Any) -> list[Document]:
        return [as_document(hit) for hit in self.search.search(query, **self._search_options(**given))]

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any, **given: Any) -> list[Document]:
        return [as_document(hit) for hit in await self.search.asearch(query, **self._search_options(**given))]

    def _search_options(self, **given: Any) -> dict[str, Any]:
        names = ("entity", "k", "mode", "filter", "score_threshold", "diversity", "session")
        own = {name: getattr(self, name) for name in names}
        return search_options(**{"data": True, **self.options, **own, **given})


def search_options(**given: Any) -> dict[str, Any]:
    """Those that are set, by kameleon's names."""
    names = {"k": "limit", "filter": "where", "score_threshold": "min_similarity"}
    return {names.get(name, name): value for name, value in given.items() if value is not None}


def as_record(document: Document, id: str | None) -> dict[str, Any]:
    record = {"text": document.page_content, "metadata": document.metadata}
    return record if id is None else {**record, "id": id}


def as_document(found: Any) -> Document:
    """The document of a record or a hit."""
    data = found.data or {}
    if "text" in data and isinstance(data.get("metadata"), Mapping):
        return Document(id=found.id, page_content=data["text"], metadata=dict(data["metadata"]))
    return Document(id=found.id, page_content=found.matched_text, metadata={**data, "entity": found.entity})


def diverse(found: Sequence[SearchResult], k: int, lambda_mult: float) -> list[Document]:
    """The documents of the greatest marginal relevance, k of those with a vector."""
    hits = [hit for hit in found if hit.vector is not None]
    if not hits:
        return []
    vectors = np.array([hit.vector for hit in hits])
    similarity, likeness = np.array([hit.similarity for hit in hits]), vectors @ vectors.T
    chosen = [int(similarity.argmax())]
    while len(chosen) < min(k, len(hits)):
        value = lambda_mult * similarity - (1 - lambda_mult) * likeness[:, chosen].max(axis=1)
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
    return [as_document(hits[place]) for place in chosen]
