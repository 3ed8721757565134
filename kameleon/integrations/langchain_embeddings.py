"""LangChain's embeddings as providers, for its vector stores and LangGraph's stores. Imports `embeddings`, `engine` and
`errors`."""

from typing import Any

from ..embeddings import CallableProvider
from ..engine import SearchEngine
from ..errors import InvalidInput, MissingExtra

try:
    from langchain_core.embeddings import Embeddings
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
