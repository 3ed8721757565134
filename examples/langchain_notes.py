"""Notes in LangChain's vector store, searched by meaning and by words, and written in a transaction of the application.
It needs no network: the embedding model is the one that kameleon includes. `python examples/langchain_notes.py`"""

import sys
from tempfile import TemporaryDirectory

from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from sqlalchemy.orm import Session

import kameleon
from kameleon.integrations.langchain import KameleonRetriever, KameleonVectorStore

NOTES = [
    Document(id="n1", page_content="Wages of March were not paid.", metadata={"team": "payroll", "year": 2025}),
    Document(id="n2", page_content="The login page times out, error E-4711.", metadata={"team": "web", "year": 2025}),
    Document(id="n3", page_content="New chairs were ordered.", metadata={"team": "office", "year": 2024}),
]


def main(folder: str) -> None:
    engine = kameleon.create_engine(f"sqlite:///{folder}/notes.db")
    search = kameleon.SearchEngine(engine, embedding_provider="static")
    store = KameleonVectorStore(search, "notes")
    store.add_documents(NOTES)
    show("salary overdue", store.similarity_search("salary overdue", k=1))

    retriever = KameleonRetriever(search=search, entity="notes", k=1, filter={"year": 2025})
    show("E-4711", retriever.invoke("E-4711"))

    with Session(engine) as session:
        store.in_session(session).delete(filter={"team": "office"})
        session.rollback()
    show("chairs, after a rollback", store.similarity_search("chairs", k=1))

    prompt = ChatPromptTemplate.from_template("Answer from these notes:\n{notes}\n\nQuestion: {question}")
    chain = {"notes": retriever | texts, "question": RunnablePassthrough()} | prompt
    sys.stdout.write(f"\n{chain.invoke('who was not paid?').to_string()}\n")
    engine.dispose()


def texts(documents: list[Document]) -> str:
    return "\n".join(document.page_content for document in documents)


def show(query: str, found: list[Document]) -> None:
    sys.stdout.write(f"{query}: {texts(found)}\n")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        main(folder)
