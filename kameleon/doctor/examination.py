"""Finds what is wrong with an index, and mends it: the tables are the truth, the index and its embeddings are not.

Known tables are those of `@searchable` classes that stand in this database, and those of the record store. What was
indexed by hand has nothing to be compared with, so it is never missing, stale or orphaned.

Everything is read in pages of `batch_size`, each in a short transaction that sees one state: rows and index of that
state must agree, whoever writes meanwhile. Mending goes down the one write path and then looks at the rows again, in
the same transaction: from the write on another writer of the record waits, so a row that says something else by then
was newer, and all is begun anew.

Errors are what makes an index wrong: missing, stale, orphaned, leftover, duplicate, bad-vector, wrong-generation,
invalid-index. Warnings make it slower, larger, incomplete or at risk: pending, unpruned, no-wal, pgvector-version,
unused-hnsw, and no-extension on PostgreSQL. Notes ask for nothing: failed, and no-extension on SQLite.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

from sqlalchemy import Connection, inspect, select, tuple_

from ..errors import Outdated, ProviderError, VectorsUnavailable
from ..indexing.entries import make_entry
from ..indexing.index import HasIndex, Index
from ..orm import syncing
from ..orm.callers import sessions_of
from ..orm.changes import Content
from ..orm.identity import key_attributes
from ..orm.mapping import Mapped, objects
from ..records.rows import record_entry
from ..reindex.generations import Reindexing
from ..stores.catalog import Entity, active, current, mismatch
from ..stores.tables import IDS_A_STATEMENT, parts
from ..stores.values import Entry, Fault, Key
from ..values import Generation, IndexStatus, Ref

EXAMPLES = 10

Severity = Literal["error", "warning", "note"]
Said = dict[str, Entry | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """`count` of what the message says is so, `ids` being up to ten of them, in order. `entity` is empty where it is
    not one entity's; the ids are then the database's own."""

    check: str
    entity: str
    count: int
    message: str
    cure: str
    severity: Severity = "error"
    ids: tuple[str, ...] = ()
    is_fixed: bool = False


def examine(search: HasIndex, *, fix: bool = False, batch_size: int = 1000) -> list[Finding]:
    """What is wrong, in the order in which it is looked for; with `fix` mended as it is found, where that can be done
    without deciding anything for you. Raises what the database says, and TransactionConflict where other writers leave
    no moment to mend."""
    return list(Doctor(search.index, fix, batch_size).findings())


def is_ok(findings: Iterable[Finding]) -> bool:
    return all(finding.severity != "error" or finding.is_fixed for finding in findings)


class Truth(Protocol):
    """A table that says what the index should hold."""

    @property
    def entity(self) -> str: ...
    def page(self, connection: Connection, after: Any, limit: int) -> tuple[Said, Any]:
        """What the next `limit` rows say, by id, None for those kept out; and where to go on, None at the end."""

    def said(self, connection: Connection, ids: Sequence[str]) -> Said:
        """What the rows of these ids say; None for those that are not there or kept out."""


@dataclass(frozen=True, slots=True)
class MappedTruth:
    mapped: Mapped

    @property
    def entity(self) -> str:
        return self.mapped.entity

    def page(self, connection: Connection, after: Any, limit: int) -> tuple[Said, Any]:
        mapped = self.mapped
        keys = key_attributes(mapped.mapper)
        statement = mapped.rows().limit(limit)
        if after is not None:
            statement = statement.where(tuple_(*keys) > after if len(keys) > 1 else keys[0] > after[0])
        found: Said = {}
        last = None
        for obj in objects(connection, statement):
            last = tuple(mapped.key_of(obj))
            if mapped.is_of(type(obj)):
                id_ = mapped.identity.id_of(last)
                found[id_] = self._entry(id_, mapped.content_of(obj))
        return found, last

    def said(self, connection: Connection, ids: Sequence[str]) -> Said:
        return {id_: self._entry(id_, content) for id_, content in self.mapped.load(connection, ids).items()}

    def _entry(self, id_: str, content: Content | None) -> Entry | None:
        return make_entry(Ref(self.entity, id_), *content) if content is not None else None


@dataclass(frozen=True, slots=True)
class StoredTruth:
    table: Any
    declared: Entity

    @property
    def entity(self) -> str:
        return self.declared.name

    def page(self, connection: Connection, after: Any, limit: int) -> tuple[Said, Any]:
        table = self.table
        statement = select(table.c.id, table.c.data).where(table.c.entity_name == self.entity)
        following = statement.where(table.c.id > (after or "")).order_by(table.c.id).limit(limit)
        rows = connection.execute(following).all()
        return self._entries(rows), rows[-1].id if rows else None

    def said(self, connection: Connection, ids: Sequence[str]) -> Said:
        table = self.table
        found: Said = dict.fromkeys(ids)
        for part in parts(ids, IDS_A_STATEMENT):
            wanted = select(table.c.id, table.c.data).where(table.c.entity_name == self.entity, table.c.id.in_(part))
            found |= self._entries(connection.execute(wanted).all())
        return found

    def _entries(self, rows: Sequence[Any]) -> Said:
        return {row.id: record_entry(self.declared, row.id, row.data) for row in rows}


class Tally:
    """Counts by entity, with the first ids of each."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.ids: dict[str, list[str]] = {}

    def add(self, refs: Iterable[Ref]) -> None:
        for entity, id_ in refs:
            self.counts[entity] = self.counts.get(entity, 0) + 1
            examples = self.ids.setdefault(entity, [])
            if len(examples) < EXAMPLES:
                examples.append(id_)

    def findings(self, check: str, message: str, cure: str, *, is_fixed: bool = False) -> Iterator[Finding]:
        for entity in sorted(self.counts):
            ids = tuple(self.ids[entity])
            yield Finding(check, entity, self.counts[entity], message, cure, ids=ids, is_fixed=is_fixed)


class Doctor:
    def __init__(self, index: Index, fix: bool, batch_size: int) -> None:
        self.index = index
        self.store = index.store
        self.fix = fix
        self.batch_size = batch_size

    def findings(self) -> Iterator[Finding]:
        """Each step leaves the database as the next needs it: indexes that can be written to before rows, rows before
        their embeddings. Leftovers go first, for on SQLite a new row may take their number. Nothing further is
        mended where it could not be written: without a generation's table, or the unique key of kdb_search."""
        yield from self._database()
        yield from self._registry()
        self.fix = self.fix and not self._without_table()
        for duplicate in self._duplicates():
            self.fix = False
            yield duplicate
        for generation in self._generations():
            yield from self._embeddings(generation)
        for truth in self._truths():
            if isinstance(truth, Finding):
                yield truth
            else:
                yield from self._entity(truth)
        yield from self._pending()
        yield from self._unused()

    # the database

    def _database(self) -> Iterator[Finding]:
        found = self._faults()
        if self.fix and found:
            if any(fault.check == "invalid-index" for fault in found):
                self.index.index_vectors()
            for fault in self._faults():
                with self.store.connections.translating():
                    self.store.health.mend(fault)
        left = {(fault.check, fault.name) for fault in self._faults()} if self.fix else set()
        for fault in found:
            ids = (fault.name,) if fault.name else ()
            is_fixed = self.fix and (fault.check, fault.name) not in left
            yield Finding(fault.check, "", 1, fault.message, fault.cure, fault.severity, ids, is_fixed)

    def _faults(self) -> list[Fault]:
        with self.index.reading() as connection:
            found = self.store.health.faults(connection, has_provider=self.index.services.provider is not None)
        with self.index.transaction() as connection:
            return found + self.store.health.index_faults(connection)

    def _registry(self) -> Iterator[Finding]:
        known = self.index.generations()
        provider = self.index.services.provider
        if provider is not None and not isinstance(provider, str) and (problem := mismatch(known, provider)):
            yield Finding("wrong-generation", "", 1, problem, "give SearchEngine the index's own provider")
        for generation in self._without_table():
            name = f"kdb_embedding_g{generation.number}"
            message = f"generation {generation.number} ({generation.model_name}) has no table {name} of embeddings"
            cure = "`kameleon doctor --fix` makes an empty one, `kameleon embeddings sync` fills it"
            is_fixed = self.fix and self._restored(generation)
            yield Finding("wrong-generation", "", 1, message, cure, ids=(name,), is_fixed=is_fixed)
        tables, pruned = self._tables(), self._pruned()
        left = tables & pruned
        dropped = {g.number for g in self.index.part(Reindexing).drop_tables().dropped} if self.fix and left else set()
        for number in sorted(left):
            message = f"kdb_embedding_g{number} is left of generation {number}, which was pruned"
            cure = (
                "`kameleon doctor --fix` or `kameleon embeddings prune` drops it, once no transaction may be reading it"
            )
            ids = (f"kdb_embedding_g{number}",)
            yield Finding("unpruned", "", 1, message, cure, "warning", ids, is_fixed=number in dropped)
        for number in sorted(tables - pruned - {generation.number for generation in known}):
            name = f"kdb_embedding_g{number}"
            message = f"no generation is registered for the table {name}, so nobody knows whose embeddings it holds"
            cure = f"restore its row of kdb_generation, or DROP TABLE {name};"
            yield Finding("wrong-generation", "", 1, message, cure, ids=(name,))

    def _restored(self, generation: Generation) -> bool:
        with self.index.transaction() as connection:
            if self.store.vectors.refusal(connection, generation.dimensions):
                return False
            self.store.schema.lock_registry(connection)
            if generation.number not in self.store.schema.embedding_tables(connection):
                self.store.schema.restore_generation(connection, generation)
        return True

    def _pruned(self) -> set[int]:
        with self.index.reading() as connection:
            return {generation.number for generation in self.index.catalog.dropped(connection)}

    def _tables(self) -> set[int]:
        with self.index.reading() as connection:
            return self.store.schema.embedding_tables(connection)

    def _generations(self) -> list[Generation]:
        """Those that have a table."""
        tables = self._tables()
        return [generation for generation in self.index.generations() if generation.number in tables]

    def _without_table(self) -> list[Generation]:
        tables = self._tables()
        return [generation for generation in self.index.generations() if generation.number not in tables]

    # rows of the index

    def _duplicates(self) -> Iterator[Finding]:
        tally = Tally()
        for _, found in self._pages(self.store.health.duplicates):
            tally.add(found)
        yield from tally.findings(
            "duplicate",
            "records that have several rows in kdb_search, whose unique key is lost",
            "delete all rows of these records, make (entity_name, record_id) unique again, and `kameleon doctor --fix`",
        )

    def _embeddings(self, generation: Generation) -> Iterator[Finding]:
        of = f"of generation {generation.number} ({generation.model_name})"
        for check, look, message, cure in (
            (
                "leftover",
                partial(self.store.health.leftovers, generation=generation),
                f"embeddings {of} whose record is not in the index",
                "`kameleon doctor --fix` deletes them",
            ),
            (
                "bad-vector",
                partial(self.store.health.bad_vectors, generation=generation),
                f"embeddings {of} that are not {generation.dimensions} numbers of length 1",
                "`kameleon doctor --fix` deletes them, and has the texts embedded anew",
            ),
        ):
            tally = Tally()
            for after, keys in self._pages(look):
                tally.add(self._dropped(generation, look, after) if self.fix and keys else self._named(keys))
            yield from tally.findings(check, message, cure, is_fixed=self.fix)

    def _dropped(self, generation: Generation, look: Callable[..., tuple[Sequence[Key], Any]], after: Any) -> list[Ref]:
        """Looked for again in the transaction that deletes them."""

        def attempt() -> list[Ref]:
            with self.index.transaction() as connection:
                keys, _ = look(connection, after=after, limit=self.batch_size)
                named = self._refs(connection, keys)
                if keys:
                    self.store.embeddings.drop(connection, generation, keys)
                return named

        return self.index.retried(attempt)

    def _named(self, keys: Sequence[Key]) -> list[Ref]:
        with self.index.reading() as connection:
            return self._refs(connection, keys)

    def _refs(self, connection: Connection, keys: Sequence[Key]) -> list[Ref]:
        known = self.store.contents.refs(connection, keys) if keys else {}
        return [known.get(key) or Ref("", str(key)) for key in keys]

    def _pages(self, look: Callable[..., tuple[Sequence[Any], Any]]) -> Iterator[tuple[Any, Sequence[Any]]]:
        """Where each page begins, and what was found on it."""
        after = None
        while True:
            with self._looking() as connection:
                found, further = look(connection, after=after, limit=self.batch_size)
            yield after, found
            if further is None:
                return
            after = further

    @contextmanager
    def _looking(self) -> Iterator[Connection]:
        """One state of the database. Begun here, for a session that finds no transaction would end its own."""
        with self.index.reading() as connection:
            if not connection.in_transaction():
                connection.begin()
            yield connection

    # tables and the index

    def _truths(self) -> Iterator["Truth | Finding"]:
        with self.index.reading() as connection:
            here = inspect(connection)
            mapped: Mapping[str, Mapped] = {
                mapped.entity: mapped
                for mapped in sessions_of(self.index).mappings.all()
                if all(here.has_table(table.name, schema=table.schema) for table in mapped.owner.tables)
            }
            stored = self.index.catalog.entities(connection)
        for entity in sorted({*mapped, *stored}):
            if entity in mapped and entity in stored:
                cls = mapped[entity].owner.class_.__qualname__
                message = f"the class {cls} and an entity of the record store have one name in the index"
                yield Finding("duplicate", entity, 1, message, "give the class another: @searchable(..., name='…')")
            elif entity in mapped:
                yield MappedTruth(mapped[entity])
            else:
                yield StoredTruth(self.index.tables.records, stored[entity])

    def _entity(self, truth: Truth) -> Iterator[Finding]:
        missing, stale, orphaned = Tally(), Tally(), Tally()
        for _, ((absent, changed),) in self._pages(partial(self._compared, truth)):
            missing.add(absent)
            stale.add(changed)
            self._mend(truth, [*absent, *changed])
        for _, found in self._pages(partial(self._without_row, truth)):
            orphaned.add(found)
            self._mend(truth, found)
        cure = "`kameleon doctor --fix`"
        for check, tally, message in (
            ("missing", missing, "rows that are not in the index"),
            ("stale", stale, "rows that say something else than the index"),
            ("orphaned", orphaned, "records in the index whose row is gone, or to be kept out"),
        ):
            yield from tally.findings(check, message, cure, is_fixed=self.fix)

    def _compared(
        self, truth: Truth, connection: Connection, *, after: Any, limit: int
    ) -> tuple[list[tuple[list[Ref], list[Ref]]], Any]:
        """Of the next rows, those that are missing and those that are stale."""
        said, further = truth.page(connection, after, limit)
        entries = [entry for entry in said.values() if entry is not None]
        states = self.store.contents.states(connection, [entry.ref for entry in entries], None)
        missing = [e.ref for e in entries if e.ref not in states]
        stale = [e.ref for e in entries if e.ref in states and states[e.ref].content_hash != e.content_hash]
        return [(missing, stale)], further

    def _without_row(self, truth: Truth, connection: Connection, *, after: Any, limit: int) -> tuple[list[Ref], Any]:
        ids = self.store.health.ids_after(connection, truth.entity, after or "", limit)
        said = truth.said(connection, ids) if ids else {}
        return [Ref(truth.entity, id_) for id_ in ids if said[id_] is None], ids[-1] if ids else None

    def _mend(self, truth: Truth, refs: Sequence[Ref]) -> None:
        if self.fix and refs:
            self.index.retried(partial(self._write, truth, [ref.id for ref in refs]))

    def _write(self, truth: Truth, ids: Sequence[str]) -> None:
        with self._looking() as connection:
            said = truth.said(connection, ids)
        plan = self.index.plan([entry for entry in said.values() if entry is not None])
        gone = [Ref(truth.entity, id_) for id_, entry in said.items() if entry is None]
        with self.index.transaction() as connection:
            self.index.check_current(plan, connection)
            self.index.apply(plan, connection)
            self.index.delete(gone, connection)
            if truth.said(connection, ids) != said:
                raise Outdated(f"rows of {truth.entity} kept being changed by others. Try again")

    # embeddings

    def _pending(self) -> Iterator[Finding]:
        if self._has_table(generation := self._own()):
            yield from self._filled(generation)
            status = syncing.status(self.index)
            ids = self._examples(generation, is_failed=True) if any(one.failed for one in status) else {}
            for one in status:
                if one.failed:
                    message = "records whose text the provider refused; they are found by keyword"
                    cure = "`kameleon embeddings status --failed` says why, `kameleon embeddings sync --retry-failed`"
                    yield Finding("failed", one.entity, one.failed, message, cure, "note", ids.get(one.entity, ()))

    def _filled(self, generation: Generation | None) -> Iterator[Finding]:
        status = [one for one in syncing.status(self.index) if one.pending]
        if not status:
            return
        ids = self._examples(generation, is_failed=False)
        left = self._synced() if self.fix else status
        unfixed = {one.entity for one in left if one.pending}
        message = "records without an embedding of what they say; they are found by keyword"
        for one in status:
            found = Finding("pending", one.entity, one.pending, message, "`kameleon embeddings sync`", "warning")
            is_fixed = one.entity not in unfixed
            yield replace(found, ids=ids.get(one.entity, ()), is_fixed=is_fixed)

    def _synced(self) -> list[IndexStatus]:
        with suppress(ProviderError, VectorsUnavailable):  # what is left is told as it was, with its cure
            syncing.sync(self.index, self.batch_size)
        return syncing.status(self.index)

    def _examples(self, generation: Generation | None, *, is_failed: bool) -> dict[str, tuple[str, ...]]:
        """Of the first page alone: how many there are is counted elsewhere."""
        with self.index.reading() as connection:
            found, _ = self.store.embeddings.pending(
                connection, generation, after=None, limit=self.batch_size, is_failed=is_failed
            )
        tally = Tally()
        tally.add(sorted(entry.ref for entry in found))
        return {entity: tuple(ids) for entity, ids in tally.ids.items()}

    def _own(self) -> Generation | None:
        """What the engine's provider embeds for; where it has no place in the index, what is searched."""
        known = self.index.generations()
        provider = self.index.services.provider
        if provider is None or isinstance(provider, str):
            return current(known)
        return self.index.services.reported(known)

    def _has_table(self, generation: Generation | None) -> bool:
        return generation is None or generation in self._generations()

    def _unused(self) -> Iterator[Finding]:
        generation = active(self._generations())
        if generation is None or not (problem := self._problem(generation)):
            return
        is_fixed = self.fix and self.index.index_vectors() and not self._problem(generation)
        cure = "`kameleon embeddings sync` builds it; where it is there: ANALYZE, and see enable_indexscan"
        yield Finding("unused-hnsw", "", 1, problem, cure, "warning", is_fixed=is_fixed)

    def _problem(self, generation: Generation) -> str:
        with self.index.reading() as connection:
            return self.store.health.unused_index(connection, generation)
