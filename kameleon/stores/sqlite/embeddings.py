"""Embeddings in SQLite: blobs in one table a generation, with a log of changes for those who keep them in memory.
Imports `values`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from ...values import Failure, Generation, IndexStatus, Ref, Tenants
from ..names import Names
from ..tables import instant, parts, utc
from ..values import ATTEMPTS, Cached, Embedding, Entry, Key, Part, stored_entry
from . import statements as sql
from .embedding_log import log_change, tenant_of
from .rows import ROWS_A_STATEMENT, as_json, fetched, keys_of, of_tenants, present, readable, timestamp

LAST_ID = 2**63 - 1


@dataclass(eq=False)
class SQLiteEmbeddings:
    _names: Names

    def write(
        self,
        connection: Connection,
        generation: Generation,
        embeddings: Sequence[Embedding],
        now: datetime,
        docs: Mapping[Ref, int],
    ) -> None:
        statement = self._names(sql.UPSERT_EMBEDDING).format(number=generation.number)
        stamp = timestamp(now)
        for part in parts(embeddings, ROWS_A_STATEMENT):
            others = _current(self._names, connection, [e for e in part if e.ref not in docs])
            known = {**docs, **others} if others else docs
            rows = [(known[e.ref], e.stored_hash, *e[2:], stamp) for e in part if e.ref in known]
            again = [(others[e.ref],) for e in part if e.passage == 0 and e.ref in others]
            if again:
                connection.exec_driver_sql(self._names(sql.DELETE_PASSAGES).format(number=generation.number), again)
            if rows:
                connection.exec_driver_sql(statement, rows)
                log_change(self._names, connection, [row[0] for row in rows], tenant_of(e.ref for e in part))

    def give_up(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> list[Ref]:
        docs = {ref: row.doc for ref, row in present(self._names, connection, refs).items()}
        binds = {"keys": as_json(docs.values()), "attempts": ATTEMPTS}
        given_up = set(
            connection.execute(text(self._names(sql.GIVE_UP).format(number=generation.number)), binds).scalars()
        )
        return [ref for ref in refs if docs.get(ref) in given_up]

    def drop(self, connection: Connection, generation: Generation, keys: Sequence[Key]) -> None:
        statement = self._names(sql.DELETE_EMBEDDINGS).format(number=generation.number)
        connection.exec_driver_sql(statement, [(key,) for key in keys])
        log_change(self._names, connection, keys)

    def copy(
        self,
        connection: Connection,
        source: Generation,
        target: Generation,
        *,
        without: Part,
        after: Any,
        upto: Any,
    ) -> None:
        binds = {"after": after or 0, "upto": LAST_ID if upto is None else upto}
        condition = of_part(without.entities, without.tenants, binds)
        given = {"source": source.number, "target": target.number, "without": condition}
        connection.execute(text(self._names(sql.COPY_EMBEDDINGS).format(**given)), binds)

    def rekey(self, connection: Connection, generation: Generation, moves: Sequence[tuple[Ref, int, Ref, int]]) -> None:
        """Those of another content stay with the old record, which is deleted."""
        pairs = [{"old": old, "new": new} for _, old, _, new in moves]
        statement = self._names(sql.REKEY).format(number=generation.number)
        if pairs and connection.exec_driver_sql(statement, pairs).rowcount:
            log_change(self._names, connection, [doc for pair in pairs for doc in pair.values()])

    def vectors_at(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> dict[Ref, bytes]:
        statement, found = self._names(sql.EMBEDDINGS_AT).format(number=generation.number), dict[Ref, bytes]()
        for part in parts(refs, ROWS_A_STATEMENT):
            found.update((part[place], vector) for place, vector in fetched(connection, statement, keys_of(part)))
        return found

    def vectors_of(self, connection: Connection, generation: Generation, docs: Sequence[int]) -> dict[int, bytes]:
        rows = fetched(
            connection, self._names(sql.FIRST_EMBEDDINGS).format(number=generation.number), {"docs": as_json(docs)}
        )
        return dict(rows)  # type: ignore[arg-type]

    # pending

    def status(
        self,
        connection: Connection,
        generation: Generation | None,
        *,
        has_provider: bool,
        tenants: Tenants = None,
    ) -> list[IndexStatus]:
        join = self._names(sql.JOIN_EMBEDDING).format(number=generation.number) if generation else ""
        pending = sql.IS_PENDING if generation else "s.content_hash <> ''" if has_provider else "0"
        binds: dict[str, Any] = {}
        of_these, failed = of_tenants(tenants, binds), sql.IS_FAILED if generation else "0"
        statement = self._names(sql.STATUS).format(join=join, pending=pending, failed=failed, tenants=of_these)
        return [
            IndexStatus(row.entity_name, row.indexed, row.pending, moment(row.last_updated), row.failed)
            for row in connection.execute(text(statement), binds)
        ]

    def pending(
        self,
        connection: Connection,
        generation: Generation | None,
        *,
        after: Any,
        limit: int,
        is_failed: bool = False,
        is_tried: bool | None = None,
        upto: Any = None,
        entities: Sequence[str] = (),
        tenants: Tenants = None,
    ) -> tuple[list[Entry], Any]:
        if generation is None:
            join, found = "", "0" if is_failed or is_tried else "s.content_hash <> ''"
        else:
            join = self._names(sql.JOIN_EMBEDDING).format(number=generation.number)
            found = (
                sql.IS_FAILED if is_failed else {None: sql.IS_PENDING, True: sql.IS_TRIED, False: sql.IS_NEW}[is_tried]
            )
        binds = {"after": after or 0, "upto": LAST_ID if upto is None else upto, "limit": limit}
        found += f" AND {of_part(entities, tenants, binds)}"
        rows = connection.execute(text(self._names(sql.PENDING).format(join=join, condition=found)), binds).all()
        entries = [stored_entry(Ref(*row[1:4]), readable(row[4]), *row[5:]).embedded for row in rows]
        return entries, rows and rows[-1].id

    def bounds(self, connection: Connection, size: int) -> list[Any]:
        return list(connection.execute(self._names(sql.BOUNDS), {"size": size}).scalars())

    def failures(self, connection: Connection, generation: Generation, tenants: Tenants = None) -> list[Failure]:
        binds: dict[str, Any] = {}
        join, of_these = self._names(sql.JOIN_EMBEDDING).format(number=generation.number), of_tenants(tenants, binds)
        statement = self._names(sql.FAILURES).format(join=join, condition=sql.IS_FAILED, tenants=of_these)
        return [Failure(*row) for row in connection.execute(text(statement), binds)]

    # cache

    def cached(self, connection: Connection, fingerprint: str, keys: Sequence[tuple[str, str]]) -> list[Cached]:
        rows = connection.execute(
            self._names(sql.CACHED).columns(used_at=instant), {"keys": as_json(keys), "fingerprint": fingerprint}
        )
        return [Cached(row.text_hash, row.embedding, utc(row.used_at), row.tenant) for row in rows]

    def cache(
        self, connection: Connection, fingerprint: str, rows: Sequence[tuple[str, str, bytes]], now: datetime
    ) -> None:
        stamp = timestamp(now)
        connection.exec_driver_sql(
            self._names(sql.CACHE), [(*key, fingerprint, vector, stamp) for *key, vector in rows]
        )


def of_part(entities: Sequence[str], tenants: Tenants, binds: dict[str, Any]) -> str:
    """Renders a condition on `s`: records of the entities, of all where none is named, and of the tenants."""
    condition = of_tenants(tenants, binds)
    if not entities:
        return condition
    binds["entities"] = as_json(entities)
    return f"{condition} AND {sql.OF_ENTITIES}"


def _current(names: Names, connection: Connection, embeddings: Sequence[Embedding]) -> dict[Ref, int]:
    """Returns the numbers of those whose record still has the content that they were made from."""
    made_from = {embedding.ref: embedding.content_hash for embedding in embeddings}
    found = present(names, connection, list(made_from)) if made_from else {}
    return {ref: row.doc for ref, row in found.items() if row.content_hash == made_from[ref]}


def moment(stamp: str | None) -> datetime | None:
    return datetime.fromisoformat(stamp) if stamp else None
