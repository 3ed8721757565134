"""Notes in a SQLite file, by an index of LlamaIndex: `python examples/llamaindex_notes.py`. Offline: the bundled model
embeds."""

import sys
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import Document
from llama_index.core.vector_stores.types import ExactMatchFilter, MetadataFilters
from pydantic import PrivateAttr

import kameleon
from kameleon import SearchEngine
from kameleon.embeddings import EmbeddingProvider, StaticProvider
from kameleon.integrations.llamaindex import KameleonVectorStore

NOTES = {
    "pay": ("The salary for May has not been paid yet.", "work"),
    "login": ("Nobody can log in since the update of the proxy.", "work"),
    "soup": ("Leek soup: butter, leeks, potatoes, a bay leaf.", "kitchen"),
    "bike": ("The rear brake of the bicycle squeals when it is wet.", "garage"),
}


class StaticEmbedding(BaseEmbedding):
    """The bundled model as LlamaIndex calls one."""

    _provider: EmbeddingProvider = PrivateAttr(default_factory=StaticProvider)

    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(number) for number in self._provider.embed(text)]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def main(url: str = "sqlite:///llamaindex-notes.db") -> None:
    search = SearchEngine(kameleon.create_engine(url), StaticProvider())
    store = KameleonVectorStore(search, "Note")
    store.clear()
    index = VectorStoreIndex.from_vector_store(store, embed_model=StaticEmbedding(embed_batch_size=32))
    for id_, (text, room) in NOTES.items():
        index.insert(Document(id_=id_, text=text, metadata={"room": room}, excluded_embed_metadata_keys=["room"]))

    def show(query: str, **options: Any) -> None:
        print(query)  # noqa: T201
        for found in index.as_retriever(similarity_top_k=2, **options).retrieve(query):
            print(f"  {found.score:.2f}  {found.node.ref_doc_id}: {found.node.get_content()}")  # noqa: T201

    show("wages overdue")
    show("proxy update", vector_store_query_mode="hybrid", alpha=0.5)
    at_home = MetadataFilters(filters=[ExactMatchFilter(key="room", value="kitchen")])
    show("something to eat", filters=at_home)
    show("quantum chromodynamics", vector_store_kwargs={"min_similarity": 0.3})
    index.delete_ref_doc("soup")
    search.engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])
