"""Helps the tests of applications that use kameleon: a provider that needs no model and records its calls, and
assertions on the index as an object's own transaction sees it. Imports `values`, `errors`, `content`, `embeddings`,
`indexing`, `orm` and `engine`."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from sqlalchemy import Connection, column, inspect, select, table
from sqlalchemy.orm import object_session

from .content import Content
from .embeddings.provider import EmbeddingProvider, Vector
from .engine import SearchEngine
from .errors import InvalidInput
from .indexing.entries import make_entry
from .indexing.index import Index
from .orm.callers import sessions_of
from .orm.sessions import Sessions
from .values import Ref

MAX_WORDS = 10_000
"""Bounds the time that a text takes. Chosen, not measured."""


def assert_indexed(obj: object, search: SearchEngine | None = None) -> None:
    """Assert that the index holds the object's content, and an embedding of that.

    `search` is the engine attached to the object's session, unless given. It is queried within the session's
    transaction, if one is open.
    """
    sessions = _sessions(obj, search)
    index = sessions.index
    ref, content = _ref(obj, sessions), _rendered(obj, sessions)
    if ref is None:
        raise AssertionError(f"{obj!r:.80} has no primary key yet: flush or commit its session first")
    if content is None:
        raise AssertionError(f"{ref.entity} {ref.id} is kept out of the index by its `when`")
    connection = _connection(obj, sessions)
    wanted = make_entry(ref, *content)
    ref = wanted.ref
    held = _indexed_content(ref, index, connection, ref.tenant)
    if held is None:
        of = f" of tenant {ref.tenant!r}" if ref.tenant else ""
        raise AssertionError(
            f"{ref.entity} {ref.id}{of} is not in the index{_hint(obj)}. Its content is {content.text!r:.200}"
        )
    state = index.state(ref, connection)
    if state is None or state.content_hash != wanted.content_hash:
        what = "other weights" if held == wanted.content else f"{held!r:.200}"
        raise AssertionError(
            f"{ref.entity} {ref.id} has the content {content.text!r:.200}, and the index holds {what}{_hint(obj)}"
        )
    if index.services.provider is not None and wanted.content_hash:
        _assert_embedded(ref, index, connection, state.embedded_hash, wanted.content_hash)


def assert_not_indexed(obj: object, search: SearchEngine | None = None) -> None:
    """Assert that the index does not hold the object's record. One that was deleted has no session: give `search`."""
    sessions = _sessions(obj, search)
    ref = _ref(obj, sessions)
    held = None if ref is None else _indexed_content(ref, sessions.index, _connection(obj, sessions))
    if ref is not None and held is not None:
        raise AssertionError(f"{ref.entity} {ref.id} is in the index{_hint(obj)}, which holds {held!r:.200}")


def _assert_embedded(ref: Ref, index: Index, connection: Connection | None, made_from: str | None, wanted: str) -> None:
    if made_from is None:
        raise AssertionError(f"the embedding of {ref.entity} {ref.id} is pending: search.sync() or a worker makes it")
    if made_from != wanted:
        raise AssertionError(f"the embedding of {ref.entity} {ref.id} was made from another text; it is pending")
    for failure in index.failures(connection):
        if (failure.entity, failure.id, failure.tenant) == ref:
            raise AssertionError(f"the provider refused {ref.entity} {ref.id} ({failure.reason}): {failure.message}")


def _sessions(obj: object, search: SearchEngine | None) -> Sessions:
    if search is not None:
        return sessions_of(search.index)
    session = object_session(obj)
    for sessions in getattr(session, "kameleon", ()):
        if sessions.binds.bind(session, sessions.mappings.searchable(type(obj))) is not None:
            attached: Sessions = sessions
            return attached
    raise InvalidInput(f"{obj!r:.80} is in no attached session: name the engine, assert_indexed(obj, search)")


def _ref(obj: object, sessions: Sessions) -> Ref | None:
    """The row that the object is or was; None where it has no primary key."""
    state: Any = inspect(obj)
    key = state.identity or state.mapper.primary_key_from_instance(obj)
    return None if None in key else sessions.mappings.searchable(type(obj)).ref(key)


def _rendered(obj: object, sessions: Sessions) -> Content | None:
    session: Any = object_session(obj)
    mapped = sessions.mappings.searchable(type(obj))
    if session is None:
        return mapped.content_of(obj)
    with session.no_autoflush:
        return mapped.content_of(obj)


def _connection(obj: object, sessions: Sessions) -> Connection | None:
    session = object_session(obj)
    if session is None or not session.in_transaction():
        return None
    mapper = sessions.mappings.searchable(type(obj)).mapper
    return sessions.binds.connection_to(session, mapper)


def _indexed_content(ref: Ref, index: Index, connection: Connection | None, tenant: str | None = None) -> str | None:
    """What the index holds of a record, of one tenant or whichever has it."""
    records = table(
        index.tables.names("kdb_search"),
        *(column(name) for name in ("tenant", "entity_name", "record_id", "content")),
        schema=index.tables.metadata.schema,
    )
    of_ref = (records.c.entity_name == ref.entity) & (records.c.record_id == ref.id)
    if tenant is not None:
        of_ref &= records.c.tenant == tenant
    with index.reading(connection) as conn:
        return conn.scalar(select(records.c.content).where(of_ref))


def _hint(obj: object) -> str:
    session = object_session(obj)
    if session is None:
        return ""
    if not getattr(session, "kameleon", ()):
        return " (its session is not of an attached factory)"
    return " (its session has not committed yet)" if session.in_transaction() else ""


class HashProvider(EmbeddingProvider):
    """A text's vector is the sum of its words', each a fixed pseudo-random direction: texts that share words are near.
    Of a text the first 10,000 words count.

    `calls` lists the texts of every `embed_batch`. `refuse(text)` may raise, or return an error to be put in the
    text's position.
    """

    name: ClassVar[str] = "hash"
    noise: tuple[float, float] | None = (0.0, 0.1)

    def __init__(
        self,
        dimensions: int = 64,
        *,
        model_name: str = "hash",
        batch_size: int = 1000,
        refuse: Callable[[str], Exception | None] | None = None,
    ) -> None:
        self.dimensions = dimensions
        self.model_name = model_name
        self.batch_size = batch_size
        self.refuse = refuse
        self.calls: list[list[str]] = []

    def embed_batch(self, texts: Sequence[str]) -> list[Vector | Exception]:
        self.calls.append(list(texts))
        return [(self.refuse and self.refuse(text)) or self._vector(text) for text in texts]

    def embed_query(self, text: str) -> Vector:
        return self._vector(text)

    def _vector(self, text: str) -> Vector:
        words = Counter(text.lower().split()[:MAX_WORDS] or [""])
        return np.asarray(sum(self._direction(word) * count for word, count in words.items()), dtype=np.float32)

    def _direction(self, word: str) -> Vector:
        seed = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        return np.random.default_rng(seed).standard_normal(self.dimensions, dtype=np.float32)
