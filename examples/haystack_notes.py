"""Notes in a SQLite file, by a Haystack pipeline: `python examples/haystack_notes.py`. Offline: the bundled model
embeds the documents when they are written, and the query when it is searched."""

import sys

from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy

from kameleon.integrations.haystack import KameleonDocumentStore, KameleonHybridRetriever, KameleonKeywordRetriever

NOTES = [
    Document(id="pay", content="The salary for May has not been paid yet.", meta={"room": "work"}),
    Document(id="login", content="Nobody can log in since the update of the proxy.", meta={"room": "work"}),
    Document(id="soup", content="Leek soup: butter, leeks, potatoes, a bay leaf.", meta={"room": "kitchen"}),
    Document(id="bike", content="The rear brake of the bicycle squeals when it is wet.", meta={"room": "garage"}),
]


def main(url: str = "sqlite:///haystack-notes.db") -> None:
    store = KameleonDocumentStore(url, "Note", provider="static")
    writing = Pipeline()
    writing.add_component("write", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
    writing.run({"write": {"documents": NOTES}})
    asking = Pipeline()
    asking.add_component("both", KameleonHybridRetriever(store, top_k=2))
    asking.add_component("words", KameleonKeywordRetriever(store, top_k=2))
    at_work = {"field": "meta.room", "operator": "==", "value": "work"}
    for query in ("wages overdue", "proxy update"):
        print(query)  # noqa: T201
        answers = asking.run({"both": {"query": query}, "words": {"query": query, "filters": at_work}})
        for retriever, answer in sorted(answers.items()):
            for document in answer["documents"]:
                print(f"  {retriever:5}  {document.score:.2f}  {document.id}: {document.content}")  # noqa: T201
    store.engine.engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])
