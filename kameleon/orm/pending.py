"""Writes what the transaction of each connection changed to the index. Imports `values`, `errors`, `content`, `stores`
and `indexing`.

Pending changes belong to the database's transaction, not to the session: they are kept by connection and follow its
savepoints, rollback and commit. So the index rows of a session that joined an outer transaction, in whichever mode, are
in that transaction, and two sessions on one connection share their pending changes.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from ..content import Content
from ..errors import InvalidRecord, StorageError
from ..indexing.index import Index
from ..indexing.writer import Indexing
from ..stores.refs import ids_by_entity
from ..stores.tables import parts
from ..values import IndexReport, Ref
from .changes import DELETED, TO_READ, Change, IdBlock, PendingChanges
from .marks import Marks
from .registry import Mappings

if TYPE_CHECKING:
    from ..indexing.embedded import Ahead

IDS_A_BLOCK = 100
"""Bounds the ids of one statement that are kept one by one; from so many on they are one text. Chosen, not measured."""

RECORDS_A_BATCH = 2_000
"""Bounds the records whose contents are read, embedded and written at a time. Chosen, not measured."""


class TransactionState:
    """One connection's transaction. `changes` is None until the first change; `linked` are flushed records whose
    related rows are to be locked before they are written; `indexing` is that of the session that began last."""

    def __init__(self) -> None:
        self.indexing: Indexing | None = None
        self.end()

    def end(self) -> None:
        self.changes: PendingChanges | None = None
        self.linked: set[Ref] = set()


class Pending:
    """The transactions of all connections to one database."""

    def __init__(self, index: Index, mappings: Mappings, marks: Marks) -> None:
        self._index = index
        self._mappings = mappings
        self._marks = marks
        self._states: WeakKeyDictionary[Connection, TransactionState] = WeakKeyDictionary()

    def state(self, connection: Connection) -> TransactionState:
        if (state := self._states.get(connection)) is None:
            state = self._states[connection] = TransactionState()
        return state

    def existing(self, connection: Connection) -> PendingChanges | None:
        """The changes of a connection's transaction, its savepoints bound; None before the first change."""
        state = self._states.get(connection)
        return None if state is None or state.changes is None else self.changes(connection)

    def changes(self, connection: Connection) -> PendingChanges:
        """The changes of a connection's transaction, its savepoints bound; made if there are none yet."""
        state = self.state(connection)
        found = state.changes = state.changes or PendingChanges()
        found.bind(connection.get_nested_transaction())
        return found

    def end(self, connection: Connection) -> None:
        """The connection's transaction was committed or rolled back."""
        if (state := self._states.get(connection)) is not None:
            state.end()

    def read_later(self, connection: Connection, entity: str, ids: Sequence[str]) -> None:
        changes = self.changes(connection)
        if len(ids) >= IDS_A_BLOCK:
            changes.read_block_later(entity, ids)
            return
        for id_ in ids:
            changes.read_later(Ref(entity, id_))

    def read(self, connection: Connection, refs: Iterable[Ref]) -> dict[Ref, Content | None]:
        """Read the content of records from their tables, an entity at a time; None for what is to leave the index."""
        return {
            Ref(entity, id_): content
            for entity, ids in ids_by_entity(refs).items()
            for id_, content in self._mappings.of_entity(entity).load(connection, ids).items()
        }

    def read_each(
        self, connection: Connection, refs: Sequence[Ref], failed: dict[Ref, InvalidRecord]
    ) -> dict[Ref, Content | None]:
        """Read the content of records, but of those whose content cannot be made; `failed` gets their errors."""
        try:
            return self.read(connection, refs)
        except InvalidRecord as error:
            if len(refs) > 1:
                each = (self.read_each(connection, [ref], failed) for ref in refs)
                return {ref: content for read in each for ref, content in read.items()}
            failed.update(dict.fromkeys(refs, error))
            return {}

    def write(
        self, connection: Connection, ahead: "Ahead | None" = None, indexing: Indexing | None = None
    ) -> IndexReport:
        """Write the pending changes; records that are to be read from their tables, RECORDS_A_BATCH at a time."""
        report = IndexReport()
        if (pending := self.existing(connection)) is None:
            return report
        indexing = indexing or self.state(connection).indexing or self._index.indexing
        budget = Budget(self._index.budget_s - (ahead.seconds if ahead else 0))
        with self._index.joining(connection):
            for changes, blocks in batches(pending, RECORDS_A_BATCH):
                report += self._write_batch(connection, changes, pending.former(changes), ahead, indexing, budget)
                pending.written(changes, blocks)
        return report

    def _write_batch(
        self,
        connection: Connection,
        changes: Mapping[Ref, Change],
        former: Mapping[Ref, Set[str]],
        ahead: "Ahead | None",
        indexing: Indexing,
        budget: "Budget",
    ) -> IndexReport:
        unique = self._mappings.tenanted({ref.entity for ref in changes})
        self._lock(connection, changes, unique)
        tracked = self._marks.tracked(connection)
        marked = [ref for ref in changes if ref.entity in tracked and not ref.tenant]
        marks = self._marks.of(connection, marked)
        read = self.read(connection, dict.fromkeys([*to_read(changes), *marked]))
        final = {**changes, **{ref: content or DELETED for ref, content in read.items()}}
        self._refuse_hidden(connection, former, final)
        report = IndexReport()
        for part, movable in divided(final, unique):
            changed = {ref: content for ref, content in part.items() if isinstance(content, Content)}
            deleted = [ref for ref in part if ref not in changed]
            with budget:
                report += self._index.write_changes(
                    connection, changed, deleted, unique=movable, ahead=ahead, indexing=indexing, budget_s=budget.left_s
                )
        self._marks.delete(connection, marks)
        return report

    def _refuse_hidden(
        self, connection: Connection, former: Mapping[Ref, Set[str]], final: Mapping[Ref, Change]
    ) -> None:
        """Raises StorageError where the index has a record under a tenant that it leaves, and policies keep the
        connection from removing it there."""
        policies = self._index.store.policies
        if not former or (own := policies.acting_for(connection)) is None:
            return
        present = self._index.store.contents.located(connection, [ref for ref in former if "" in former[ref]], None)
        of_none = {ref[:2] for ref, _ in present if not ref.tenant}
        for ref, tenants in former.items():
            change = final[ref]
            kept = change.tenant if isinstance(change, Content) else None
            for tenant in sorted(tenants - {own, kept}):
                if tenant or ref[:2] in of_none:
                    raise StorageError(hidden(ref, tenant, own, self._index.store.settings.protected_by))

    def _located(self, connection: Connection, refs: Iterable[Ref], unique: Set[str]) -> list[Ref]:
        """The records, those of classes with tenants under the tenants that the index has them under."""
        if not unique:
            return list(refs)
        found = [ref for ref in refs if ref.tenant or ref.entity not in unique]
        elsewhere = [ref for ref in refs if not ref.tenant and ref.entity in unique]
        return found + [ref for ref, _ in self._index.store.contents.located(connection, elsewhere, None)]

    def _lock(self, connection: Connection, refs: Iterable[Ref], unique: Set[str]) -> None:
        """Lock what flushed records depend on, then their index rows. Always in this order: a transaction that waits
        for an index row has written its own rows already, so the next one that reads them finds its changes. Where the
        index has a record is read last, for another transaction may have moved it meanwhile."""
        if not self._index.store.connections.can_lock_rows():
            return
        state = self.state(connection)
        linked, state.linked = state.linked, set()
        for entity, ids in ids_by_entity(sorted(linked)).items():
            self._mappings.of_entity(entity).lock_related(connection, ids)
        self._index.hold(connection, self._located(connection, refs, unique))


def hidden(ref: Ref, tenant: str, own: str, setting: str) -> str:
    return (
        f"{ref.entity} {ref.id!r:.80} leaves the tenant {tenant!r:.80}, and row-level security lets this role write "
        f"the rows of {own!r:.80} alone, which {setting} names: the index would keep it under {tenant!r:.80}, too. "
        "Write it as a worker's role, one that `kameleon tenants protect` was given; that sees both tenants"
    )


def divided(changes: Mapping[Ref, Change], unique: Set[str]) -> Iterator[tuple[Mapping[Ref, Change], Set[str]]]:
    """The changes, and the entities whose records move between tenants: not those that were indexed by hand, under a
    tenant that the caller named."""
    if not unique:
        yield changes, unique
        return
    by_hand = {ref: change for ref, change in changes.items() if ref.tenant and ref.entity in unique}
    if not by_hand:
        yield changes, unique
        return
    yield {ref: change for ref, change in changes.items() if ref not in by_hand}, unique
    yield by_hand, set()


def to_read(changes: Mapping[Ref, Change]) -> list[Ref]:
    return [ref for ref, change in changes.items() if change is TO_READ]


def batches(pending: PendingChanges, size: int) -> Iterator[tuple[dict[Ref, Change], list[IdBlock]]]:
    """What is pending, and the blocks that are part of it. At most `size` records are to be read in one batch, unless a
    block has more."""
    single = pending.pending()
    changes: dict[Ref, Change] = {ref: change for ref, change in single.items() if change is not TO_READ}
    blocks: list[IdBlock] = []
    read = 0
    for made, refs in _readable(pending, to_read(single), size):
        if read and read + len(refs) > size:
            yield changes, blocks
            changes, blocks, read = {}, [], 0
        changes |= dict.fromkeys(refs, TO_READ)
        blocks += made
        read += len(refs)
    if changes or blocks:
        yield changes, blocks


def _readable(
    pending: PendingChanges, single: Sequence[Ref], size: int
) -> Iterator[tuple[list[IdBlock], Sequence[Ref]]]:
    yield from (([], part) for part in parts(single, size))
    yield from (([block], pending.refs_of(block)) for block in pending.blocks())


class Budget:
    """How long the batches of one commit may wait for a provider, altogether: entered while one does."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.left_s -= time.monotonic() - self._began
