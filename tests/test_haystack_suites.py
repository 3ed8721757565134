"""The suites that Haystack publishes for document stores, over ours. None of their tests is left out; those of options
that the store does not have (recreate_index) skip themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("haystack")

from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DocumentStore, DuplicatePolicy
from haystack.testing import document_store as suites
from haystack.testing import document_store_async as async_suites

from kameleon.embeddings import GivenVectors
from kameleon.integrations.haystack import KameleonDocumentStore

from .conftest import Make

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def comparable(document: Document) -> dict[str, Any]:
    """Without the embedding, and it is given that one has a direction."""
    return {**document.to_dict(flatten=False), "embedding": document.embedding is None}


class Over:
    """The store under test. Documents come by id, and embeddings back as float32 of length 1."""

    @pytest.fixture
    def document_store(self, make: Make) -> KameleonDocumentStore:
        return KameleonDocumentStore(make(GivenVectors("haystack-suite")))

    @staticmethod
    def assert_documents_are_equal(received: Sequence[Document], expected: Sequence[Document]) -> None:
        wanted = sorted(expected, key=lambda document: document.id)
        assert [comparable(document) for document in received] == [comparable(document) for document in wanted]
        for found, given in zip(received, wanted, strict=True):
            if given.embedding is not None:
                direction = np.array(given.embedding) / np.linalg.norm(given.embedding)
                np.testing.assert_allclose(np.array(found.embedding), direction, atol=1e-6)


class TestStore(
    Over,
    suites.DocumentStoreBaseExtendedTests,
    suites.CountDocumentsByFilterTest,
    suites.CountUniqueMetadataByFilterTest,
    suites.GetMetadataFieldsInfoTest,
    suites.GetMetadataFieldMinMaxTest,
    suites.GetMetadataFieldUniqueValuesTest,
):
    def test_write_documents(self, document_store: DocumentStore) -> None:
        """Without a policy an id that is taken is an error."""
        documents = [Document(id="1", content="one"), Document(id="2", content="two")]
        assert document_store.write_documents(documents) == 2
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents(documents, DuplicatePolicy.NONE)
        self.assert_documents_are_equal(document_store.filter_documents(), documents)


class TestAsyncStore(
    Over,
    async_suites.CountDocumentsAsyncTest,
    async_suites.WriteDocumentsAsyncTest,
    async_suites.DeleteDocumentsAsyncTest,
    async_suites.DeleteAllAsyncTest,
    async_suites.DeleteByFilterAsyncTest,
    async_suites.UpdateByFilterAsyncTest,
    async_suites.FilterDocumentsAsyncTest,
    async_suites.CountDocumentsByFilterAsyncTest,
    async_suites.CountUniqueMetadataByFilterAsyncTest,
    async_suites.GetMetadataFieldsInfoAsyncTest,
    async_suites.GetMetadataFieldMinMaxAsyncTest,
    async_suites.GetMetadataFieldUniqueValuesAsyncTest,
):
    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store: KameleonDocumentStore) -> None:
        documents = [Document(id="1", content="one")]
        assert await document_store.write_documents_async(documents) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async(documents)


def test_all_suites_are_here() -> None:
    published = {
        name
        for module in (suites, async_suites)
        for name, value in vars(module).items()
        if isinstance(value, type) and name.endswith(("Test", "Tests"))
    }
    taken = {base.__name__ for suite in (TestStore, TestAsyncStore) for base in suite.__mro__}
    assert published - taken == set()
