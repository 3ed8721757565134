"""The suites that LangChain publishes for vector stores and retrievers, over ours: all of their tests."""

import inspect
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.indexing import UpsertResponse
from langchain_core.indexing.base import DeleteResponse, DocumentIndex
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests
from langchain_tests.integration_tests.indexer import AsyncDocumentIndexTestSuite, DocumentIndexerTestSuite

from kameleon.integrations.langchain import KameleonRetriever, KameleonVectorStore, provider

from .conftest import Make

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


for suite in (VectorStoreIntegrationTests, RetrieversIntegrationTests, AsyncDocumentIndexTestSuite):
    for _, coroutine in inspect.getmembers(suite, inspect.iscoroutinefunction):
        pytest.mark.asyncio(coroutine)


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, make: Make) -> KameleonVectorStore:
        return KameleonVectorStore(make(provider(self.get_embeddings())))


class Index(DocumentIndex):
    """LangChain's index of documents, which it marks as beta and advises not to ship, over the vector store."""

    store: Any

    def upsert(self, items: Sequence[Document], /, **options: Any) -> UpsertResponse:
        return {"succeeded": self.store.add_documents(list(items), **options), "failed": []}

    def delete(self, ids: list[str] | None = None, **options: Any) -> DeleteResponse:
        if ids is None:
            raise ValueError("ids are needed here")
        found = [document.id for document in self.store.get_by_ids(ids)]
        self.store.delete(ids, **options)
        return {"num_deleted": len(found), "succeeded": found, "num_failed": 0, "failed": []}

    def get(self, ids: Sequence[str], /, **_: Any) -> list[Document]:
        documents: list[Document] = self.store.get_by_ids(ids)
        return documents

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        documents: list[Document] = self.store.similarity_search(query)
        return documents


class TestIndex(DocumentIndexerTestSuite):
    @pytest.fixture
    def index(self, make: Make) -> Index:
        return Index(store=KameleonVectorStore(make("static")))


class TestAsyncIndex(AsyncDocumentIndexTestSuite):
    @pytest.fixture
    def index(self, make: Make) -> Index:
        return Index(store=KameleonVectorStore(make("static")))


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def store(self, make: Make) -> None:
        store = KameleonVectorStore(make("static"))
        store.add_texts(["red fox", "lazy fox", "old fox", "new fox"])
        self._engine = store.engine

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return KameleonRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"search": self._engine}

    @property
    def retriever_query_example(self) -> str:
        return "fox"
