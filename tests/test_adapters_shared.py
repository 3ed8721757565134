"""What the adapters of all frameworks have: transactions of sessions and AsyncSessions, providers that are awaited on
the event loop that calls, threads, and their length."""

import ast
import asyncio
import importlib
import io
import tokenize
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import kameleon
import kameleon.integrations
from kameleon import SearchEngine
from kameleon.embeddings import CallableProvider
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider

from .conftest import Make

FRAMEWORKS = {
    "langchain": "langchain_core",
    "langgraph": "langgraph.store.base",
    "llamaindex": "llama_index.core",
    "haystack": "haystack",
}
FOLDER = Path(kameleon.integrations.__file__).parent
LONGEST = 119
LONGER = {"haystack.py": 189}
"""Its document store has twelve optional verbs of metadata, each twice, and three retrievers."""


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(FRAMEWORKS[request.param])
    return str(request.param)


class Verbed:
    """A store of a framework with two verbs: `put(ids)` and `found()`, the ids; and their coroutines."""

    def __init__(self, framework: str, search: Any) -> None:
        module = importlib.import_module(f"kameleon.integrations.{framework}")
        names = {"langgraph": "KameleonStore", "haystack": "KameleonDocumentStore"}
        self.framework, self.store = framework, getattr(module, names.get(framework, "KameleonVectorStore"))(search)

    def inside(self, session: Any) -> Any:
        inside = object.__new__(Verbed)
        inside.framework, inside.store = self.framework, self.store.in_session(session)
        return inside

    def put(self, ids: Sequence[str]) -> None:
        getattr(self, f"_{self.framework}")(ids)[0]()

    def found(self) -> set[str]:
        return self._ids(getattr(self, f"_{self.framework}")([])[1]())

    async def aput(self, ids: Sequence[str]) -> None:
        await getattr(self, f"_{self.framework}")(ids)[2]()

    async def afound(self) -> set[str]:
        return self._ids(await getattr(self, f"_{self.framework}")([])[3]())

    def _ids(self, found: Any) -> set[str]:
        documents = found["documents"] if isinstance(found, dict) else getattr(found, "nodes", found)
        name = {"langgraph": "key", "llamaindex": "node_id"}.get(self.framework, "id")
        return {getattr(document, name) for document in documents}

    def _langchain(self, ids: Sequence[str]) -> list[Callable[[], Any]]:
        texts, store = [f"red fox {id_}" for id_ in ids], self.store
        return [
            lambda: store.add_texts(texts, ids=list(ids)),
            lambda: store.similarity_search("fox", k=50),
            lambda: store.aadd_texts(texts, ids=list(ids)),
            lambda: store.asimilarity_search("fox", k=50),
        ]

    def _langgraph(self, ids: Sequence[str]) -> list[Callable[[], Any]]:
        from langgraph.store.base import PutOp

        puts, store = [PutOp(("a",), id_, {"text": f"red fox {id_}"}) for id_ in ids], self.store
        return [
            lambda: store.batch(puts),
            lambda: store.search(("a",), query="fox", limit=50),
            lambda: store.abatch(puts),
            lambda: store.asearch(("a",), query="fox", limit=50),
        ]

    def _llamaindex(self, ids: Sequence[str]) -> list[Callable[[], Any]]:
        from llama_index.core.schema import TextNode
        from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

        nodes, store = [TextNode(id_=id_, text=f"red fox {id_}") for id_ in ids], self.store
        query = VectorStoreQuery(query_str="fox", mode=VectorStoreQueryMode.HYBRID, hybrid_top_k=50)
        return [
            lambda: store.add(nodes),
            lambda: store.query(query),
            lambda: store.async_add(nodes),
            lambda: store.aquery(query),
        ]

    def _haystack(self, ids: Sequence[str]) -> list[Callable[[], Any]]:
        from haystack import Document

        from kameleon.integrations.haystack import KameleonHybridRetriever

        documents = [Document(id=id_, content=f"red fox {id_}") for id_ in ids]
        retriever = KameleonHybridRetriever(self.store, top_k=50)
        return [
            lambda: self.store.write_documents(documents),
            lambda: retriever.run("fox"),
            lambda: self.store.write_documents_async(documents),
            lambda: retriever.run_async("fox"),
        ]


def test_a_store_in_a_session_is_in_its_transaction(framework: str, make: Make) -> None:
    store = Verbed(framework, make(HashProvider(16)))
    store.put(["a"])
    with Session(store.store.engine.engine) as session:
        inside = store.inside(session)
        inside.put(["b"])
        assert inside.found() == {"a", "b"}
        session.rollback()
    assert store.found() == {"a"}


def test_a_store_in_an_async_session_is_in_its_transaction(framework: str, engine: Engine) -> None:
    sqlite = engine.dialect.name == "sqlite"
    made = kameleon.create_async_engine(engine.url.set(drivername="sqlite+aiosqlite") if sqlite else engine.url)
    search = SearchEngine(made, HashProvider(16))
    store = Verbed(framework, search)

    async def use() -> None:
        await store.aput(["a"])
        async with AsyncSession(made) as session:
            inside = store.inside(session)
            await inside.aput(["b"])
            assert await inside.afound() == {"a", "b"}
            await session.rollback()
        assert await store.afound() == {"a"}
        async with AsyncSession(made) as session, session.begin():
            await store.inside(session).aput(["c"])
            with pytest.raises(InvalidInput, match="AsyncSession"):
                store.inside(session).put(["d"])
        assert await store.afound() == {"a", "c"}
        await made.dispose()

    asyncio.run(use())
    with Session(search.engine) as session, pytest.raises(InvalidInput, match="AsyncSession"):
        asyncio.run(store.inside(session).aput(["e"]))
    search.engine.dispose()


def test_a_provider_is_awaited_on_the_loop_that_calls(framework: str, make: Make) -> None:
    loops, texts_of = set[int](), HashProvider(16)

    async def awaits(texts: Sequence[str]) -> list[Any]:
        loops.add(id(asyncio.get_running_loop()))
        return [texts_of.embed(text) for text in texts]

    def called(texts: Sequence[str]) -> list[Any]:
        raise AssertionError("the coroutine is there")

    provider = CallableProvider(called, adocuments=awaits, model_name="awaited", dimensions=16)
    store = Verbed(framework, make(provider))

    async def use() -> None:
        await store.aput(["a"])
        assert await store.afound() == {"a"}
        assert loops == {id(asyncio.get_running_loop())}

    asyncio.run(use())


def test_threads_and_coroutines_share_a_store(framework: str, make: Make) -> None:
    store = Verbed(framework, make(HashProvider(16)))
    names = [f"n{number:02}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put([name]), names[:12]))

    async def use() -> None:
        await asyncio.gather(*(store.aput([name]) for name in names[12:]))

    asyncio.run(use())
    assert store.found() == set(names)


def lines_of_code(path: Path) -> int:
    """Without blank lines, comments and docstrings."""
    source = path.read_text(encoding="utf-8")
    kinds = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in kinds:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_an_adapter_is_short() -> None:
    found = {path.name: lines_of_code(path) for path in FOLDER.glob("*.py")}
    too_long = {name: count for name, count in found.items() if count > LONGEST}
    assert set(too_long) <= set(LONGER)
    assert too_long.get("haystack.py", 0) <= LONGER["haystack.py"]
