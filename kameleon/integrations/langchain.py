"""LangChain: a vector store and a retriever over a SearchEngine. Imports `errors` and `search`.

A document is a record with its text in the field `text` and its metadata in the object `metadata`, in which the names
of filters begin.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from ..errors import MissingExtra
from ..search.diversity import ordered
from .adapting import Adapter, awaited, check_lengths

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore
    from pydantic import Field

    from .langchain_embeddings import provider, search_engine
except ImportError as _error:
    raise MissingExtra("langchain-core", "langchain") from _error

__all__ = ["KameleonRetriever", "KameleonVectorStore", "provider"]


class KameleonVectorStore(Adapter, VectorStore):
    """Documents of an entity, which is made where it is missing. `search` is a SearchEngine or its `for_tenant`; or an
    SQLAlchemy engine, of which a SearchEngine is made that embeds by `embedding`. Raises InvalidInput for an entity of
    another shape.

    Searches are by vector and take SearchOptions: mode="hybrid" ranks by keywords, too. A score is the cosine, of a
    record without a vector 0, and with mode="keyword" that of the hit; relevance is the score within 0 and 1.
    """

    def __init__(self, search: Any, entity: str = "documents", *, embedding: Embeddings | None = None) -> None:
        self._embedding = embedding
        self._open(search_engine(search, embedding), entity, "text", filters="metadata")

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

    def add_texts(
        self, texts: Iterable[str], metadatas: list[dict[str, Any]] | None = None, *, ids: Any = None, **options: Any
    ) -> list[str]:
        texts = list(texts)
        check_lengths(len(texts), ids=ids, metadatas=metadatas)
        return super().add_texts(texts, metadatas, ids=ids, **options)

    def add_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None, **options: Any
    ) -> list[str]:
        """Store documents in one transaction, replacing those of their ids, and return the ids: those of `ids`, or
        their own, or random ones. `embeddings` are vectors at hand, one a document."""
        options.pop("batch_size", None)  # the indexing API calls once a batch, and says so
        ids = [document.id for document in documents] if ids is None else ids
        check_lengths(len(documents), ids=ids)
        records = [as_record(document, key) for document, key in zip(documents, ids, strict=True)]
        return list(self._call("insert", records, on_conflict="replace", **options).ids)

    def delete(self, ids: list[str] | None = None, *, filter: Any = None, **options: Any) -> bool:
        """Delete documents by id, or those of `filter`; without both, all."""
        self._call("delete", ids, where={} if ids is None and filter is None else filter, **options)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [as_document(record) for record in self._call("get_many", ids)]

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        return [as_document(hit) for hit in self._found(query, k=k, **options)]

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Any) -> list[tuple[Document, float]]:
        is_keyword = options.get("mode") == "keyword"
        hits = self._found(query, k=k, **options)
        return [(as_document(hit), hit.score if is_keyword else hit.similarity or 0.0) for hit in hits]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **options: Any) -> list[Document]:
        return self.similarity_search("", k, vector=embedding, **options)

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        found = self._found(query, k=fetch_k, vectors=True, **options)
        hits = [hit for hit in found if hit.vector is not None]
        cosines, vectors = np.array([hit.similarity for hit in hits]), np.array([hit.vector for hit in hits])
        places, _ = ordered(cosines, vectors, 1 - lambda_mult, [], k)
        return [as_document(hits[place]) for place in places]

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        return self.max_marginal_relevance_search("", k, fetch_k, lambda_mult, vector=embedding, **options)

    aadd_documents = awaited(add_documents)
    adelete = awaited(delete)
    aget_by_ids = awaited(get_by_ids)
    asimilarity_search = awaited(similarity_search)
    asimilarity_search_with_score = awaited(similarity_search_with_score)
    asimilarity_search_by_vector = awaited(similarity_search_by_vector)
    amax_marginal_relevance_search = awaited(max_marginal_relevance_search)
    amax_marginal_relevance_search_by_vector = awaited(max_marginal_relevance_search_by_vector)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: min(1.0, max(0.0, score))

    def _found(self, query: str, **options: Any) -> Any:
        return self._hits(query, **{"mode": "vector", **search_options(**options)})


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
