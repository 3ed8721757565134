"""The suites that LangChain publishes for vector stores and retrievers, over ours: all of their tests."""

import inspect
from typing import Any

import pytest

pytest.importorskip("langchain_tests")

from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from kameleon.integrations.langchain import KameleonRetriever, KameleonVectorStore, provider

from .conftest import Make

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


for suite in (VectorStoreIntegrationTests, RetrieversIntegrationTests):
    for _, test in inspect.getmembers(suite, inspect.iscoroutinefunction):
        pytest.mark.asyncio(test)


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, make: Make) -> KameleonVectorStore:
        return KameleonVectorStore(make(provider(self.get_embeddings())))


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
