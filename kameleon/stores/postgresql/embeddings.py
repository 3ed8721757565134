"""Embeddings in PostgreSQL: pgvector's columns in one table a generation. Imports `values`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from ...values import BUILDING, Failure, Generation, IndexStatus, Ref, Tenants
from ..tables import Tables, parts, utc
from ..values import ATTEMPTS, Cached, Embedding, Entry, Key, Part, stored_entry
from . import copy as binary
from . import statements as sql
from . import statements_vectors as vector_sql
from .fetching import fetched
from .rows import after_key, by_key, keys_of, packed_for, upto_key
from .scope import of_tenants
from .templates import Templates

ROWS_A_STATEMENT = 1_000
ROWS_INSERTED = 50
"""More new rows than this are copied. Chosen, not measured."""


@dataclass(eq=False)
class PostgreSQLEmbeddings:
    _templates: Templates
    _tables: Tables
    _copying: binary.Copy

    def write(
        self,
        connection: Connection,
        generation: Generation,
        embeddings: Sequence[Embedding],
        now: datetime,
        docs: Mapping[Ref, int],
    ) -> None:
        others = [e.ref for e in embeddings if e.ref not in docs and e.passage == 0]
        locked = self._locked(connection, generation, others) if others else {}
        hashes = {ref: row.content_hash for ref, row in locked.items()}
        current = sorted(
            (e for e in embeddings if e.ref in docs or hashes.get(e.ref) == e.content_hash),
            key=lambda embedding: (embedding.ref.key, embedding.passage),
        )
        if not current:
            return
        several = [e.ref for e in current if e.passage == 0 and e.ref in locked and locked[e.ref].last_passage]
        by_key(connection, self._templates.format(sql.DELETE_PASSAGES, generation), several)
        packed = packed_for(generation, [e.vector for e in current])
        known = {**docs, **{ref: row.doc for ref, row in locked.items()}} if locked else docs
        rows = [
            (*e.ref, known[e.ref], e.stored_hash, vector, *e[3:]) for e, vector in zip(current, packed, strict=True)
        ]
        are_new = all(row.last_passage is None for row in locked.values())
        written = [e.ref for e in current if e.ref in docs]
        if len(rows) > ROWS_INSERTED and are_new and self._may_copy(connection, generation, written):
            self._copying.into(connection, self._templates.embedding(generation), *encoded(rows, now))
        else:
            self._insert(connection, generation, rows, now)

    def _locked(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> dict[Ref, Any]:
        """Locks the records until the transaction ends and reads their hashes, and whether they have an embedding.
        Citus cannot lock rows of several shards; there an embedding may be outdated at once, which search sees. So may
        one of a generation that is being built, whose run checks before and after the switch: to lock each record of
        the index is to write each again. That waits for a tenant's deletion alone."""
        is_building = generation.state == BUILDING
        is_locked = not self._templates.has_citus and not is_building
        if is_building and not self._templates.has_citus:
            connection.exec_driver_sql(self._templates.format(sql.LOCK_CONTENTS))
        statement = self._templates.format(sql.HASHES, generation, lock="FOR SHARE OF s" if is_locked else "")
        return {Ref(*row[:3]): row for row in by_key(connection, statement, refs)}

    def _may_copy(self, connection: Connection, generation: Generation, written: Sequence[Ref]) -> bool:
        """Whether none of the records that were written in this transaction has an embedding."""
        if not self._copying.is_possible(connection):
            return False
        return not by_key(connection, self._templates.format(sql.ANY_EMBEDDING, generation), written)

    def _insert(
        self, connection: Connection, generation: Generation, rows: Sequence[tuple[Any, ...]], now: datetime
    ) -> None:
        binary.adapt(connection)
        for part in parts(rows, ROWS_A_STATEMENT):
            marks = ", ".join(["%s"] * len(part))
            given = self._templates.format(sql.EMBEDDINGS_GIVEN, generation, vectors=marks)
            entities, ids, tenants, docs, hashes, vectors, *others = map(list, zip(*part, strict=True))
            packed = [binary.Packed(vector) if vector else None for vector in vectors]
            connection.exec_driver_sql(
                self._templates.format(sql.UPSERT_EMBEDDING, generation, rows=given),
                (entities, ids, tenants, docs, hashes, *packed, *others, now),
            )

    def give_up(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> list[Ref]:
        statement = self._templates.format(sql.GIVE_UP, generation)
        return [Ref(*row) for row in by_key(connection, statement, refs, attempts=ATTEMPTS)]

    def drop(self, connection: Connection, generation: Generation, keys: Sequence[Key]) -> None:
        connection.exec_driver_sql(self._templates.format(sql.DROP_EMBEDDINGS, generation), (list(keys),))

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
        binds: dict[str, Any] = dict(after_key(after))
        binds["without"] = list(without.entities) or None
        binds["without_tenants"] = None if without.tenants is None else list(without.tenants)
        if upto is not None:
            binds |= upto_key(upto)
        names = {"target": self._templates.embedding(target), "upto": "" if upto is None else sql.COPIED_UPTO}
        connection.execute(self._templates.text(sql.COPY_EMBEDDINGS, source, **names), binds)

    def rekey(self, connection: Connection, generation: Generation, moves: Sequence[tuple[Ref, int, Ref, int]]) -> None:
        if moves:
            rows = sorted((*old, old_doc, *new, new_doc) for old, old_doc, new, new_doc in moves)
            columns = map(list, zip(*rows, strict=True))
            connection.exec_driver_sql(self._templates.format(sql.REKEY, generation), tuple(columns))

    def vectors_at(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> dict[Ref, bytes]:
        statement = self._templates.format(vector_sql.EMBEDDINGS_AT, generation)
        rows = [row for keys in keys_of(refs) for row in fetched(connection, statement, keys)]
        return {Ref(*key): binary.vector_of_array(sent) for *key, sent in rows}

    def vectors_of(self, connection: Connection, generation: Generation, docs: Sequence[int]) -> dict[int, bytes]:
        rows = fetched(
            connection, self._templates.format(vector_sql.FIRST_EMBEDDINGS, generation), {"docs": list(docs)}
        )
        return {doc: binary.vector_of_array(sent) for doc, sent in rows}

    # pending

    def status(
        self,
        connection: Connection,
        generation: Generation | None,
        *,
        has_provider: bool,
        tenants: Tenants = None,
    ) -> list[IndexStatus]:
        join = self._templates.format(sql.JOIN_EMBEDDING, generation) if generation else ""
        pending = sql.IS_PENDING if generation else "s.content_hash <> ''" if has_provider else "false"
        failed = sql.IS_FAILED if generation else "false"
        within, binds = of_tenants(tenants, "s")
        statement = self._templates.text(sql.STATUS, join=join, pending=pending, failed=failed, tenants=within)
        return [
            IndexStatus(row.entity_name, row.indexed, row.pending, utc(row.last_updated), row.failed)
            for row in connection.execute(statement, binds)
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
        found = ["false" if is_failed or is_tried else "s.content_hash <> ''"]
        if generation is not None:
            failed = " AND e.reason IS NOT NULL" if is_failed else ""
            looked_up = self._templates.format(sql.LOOKED_UP, generation, failed=failed)
            pending = {None: sql.STILL_PENDING, True: sql.IS_TRIED, False: sql.IS_NEW}[is_tried]
            found = [(sql.IS_REFUSED if is_failed else pending).format(looked_up=looked_up)]
        within, of_these = of_tenants(tenants, "s")
        found.append(within)
        binds: dict[str, Any] = {**after_key(after), **of_these, "limit": limit}
        if upto is not None:
            found.append(sql.UPTO)
            binds |= upto_key(upto)
        if entities:
            found.append(sql.OF_ENTITIES)
            binds["of"] = list(entities)
        rows = connection.execute(self._templates.text(sql.PENDING, condition=" AND ".join(found)), binds).all()
        entries = [stored_entry(Ref(*row[:3]), *row[3:]).embedded for row in rows]
        return entries, entries and entries[-1].ref.key

    def bounds(self, connection: Connection, size: int) -> list[Any]:
        return [list(row) for row in connection.execute(self._templates.text(sql.BOUNDS), {"size": size})]

    def failures(self, connection: Connection, generation: Generation, tenants: Tenants = None) -> list[Failure]:
        join = self._templates.format(sql.JOIN_EMBEDDING, generation)
        within, binds = of_tenants(tenants, "s")
        statement = self._templates.text(sql.FAILURES, join=join, condition=sql.IS_FAILED, tenants=within)
        return [Failure(*row) for row in connection.execute(statement, binds)]

    # cache

    def cached(self, connection: Connection, fingerprint: str, keys: Sequence[tuple[str, str]]) -> list[Cached]:
        tenants, hashes = zip(*keys, strict=True) if keys else ((), ())
        binds = {"tenants": list(tenants), "keys": list(hashes), "fingerprint": fingerprint}
        rows = connection.execute(self._templates.text(sql.CACHED), binds)
        return [Cached(row.text_hash, row.embedding, utc(row.used_at), row.tenant) for row in rows]

    def cache(
        self, connection: Connection, fingerprint: str, rows: Sequence[tuple[str, str, bytes]], now: datetime
    ) -> None:
        statement = insert(self._tables.embedding_cache).on_conflict_do_nothing()
        values = {"fingerprint": fingerprint, "used_at": now}
        added = [{**values, "tenant": t, "text_hash": key, "embedding": vector} for t, key, vector in rows]
        connection.execute(statement, added)


def encoded(rows: Sequence[tuple[Any, ...]], now: datetime) -> tuple[Sequence[str], bytes]:
    """Returns the columns and data of embeddings for COPY, without columns that all rows leave empty."""
    stamp = binary.timestamp(now)
    names: tuple[str, ...] = sql.EMBEDDING_COLUMNS
    if has_refusals := any(row[6] is not None for row in rows):
        names += sql.REFUSAL_COLUMNS
    if has_passages := any(row[9] is not None for row in rows):
        names += sql.PASSAGE_COLUMNS

    def fields() -> Iterator[Sequence[bytes | None]]:
        for entity, id_, tenant, doc, hash_, vector, reason, message, *place in rows:
            row: tuple[bytes | None, ...] = (
                entity.encode(),
                id_.encode(),
                tenant.encode(),
                binary.bigint(doc),
                hash_.encode(),
                stamp,
                vector,
            )
            if has_refusals:
                row += (reason and reason.encode(), message and message.encode())
            if has_passages:
                row += tuple(None if number is None else binary.integer(number) for number in place)
            yield row

    return names, binary.encoded(fields())
