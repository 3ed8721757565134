"""The pending changes of one database transaction, savepoints included. Pure. Imports `values` and `content`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final
from weakref import ref as weak

from ..content import FULL, Content, Extent
from ..values import Ref

SEPARATOR = "\0"
"""No record id contains it."""


class Kind(Enum):
    """DELETED: the record is gone. TO_READ: its content is to be read from its table. WRITTEN: the index contains the
    change already."""

    DELETED = "deleted"
    TO_READ = "to read"
    WRITTEN = "written"


DELETED: Final = Kind.DELETED
TO_READ: Final = Kind.TO_READ
WRITTEN: Final = Kind.WRITTEN

Change = Content | Kind


class IdBlock:
    """Many records of one entity to read from their table, as one text: a million ids take a few megabytes."""

    __slots__ = ("_ids", "entity")

    def __init__(self, entity: str, ids: Iterable[str]) -> None:
        self.entity = entity
        self._ids = SEPARATOR.join(ids)

    def refs(self) -> Iterator[Ref]:
        return (Ref(self.entity, id_) for id_ in self._ids.split(SEPARATOR))


class Level:
    """What changed since a savepoint was set. `savepoint` is None for the transaction itself, and for a savepoint that
    is not bound yet. `written` are blocks, of this level or those below, that were written to the database since.
    `former` are the tenants that records had before they changed, where policies may hide what the index has there."""

    def __init__(self) -> None:
        self.savepoint: Any = None
        self.changes: dict[Ref, Change] = {}
        self.blocks: list[IdBlock] = []
        self.written: set[IdBlock] = set()
        self.former: dict[Ref, set[str]] = {}

    def is_of(self, savepoint: object) -> bool:
        return self.savepoint is not None and self.savepoint() is savepoint

    def has_ended(self) -> bool:
        if self.savepoint is None:
            return False
        savepoint = self.savepoint()
        return savepoint is None or not getattr(savepoint, "is_active", True)


class PendingChanges:
    """What one transaction still has to write to the index: the last change of each record.

    Invariant: `pending()` and `blocks()` are the last change of each record that the transaction made and has not
    rolled back, less those that the index rows it wrote, and has not rolled back, contain. Writing them makes the index
    equal to the tables as the transaction sees them. So each savepoint opens a level, and its rollback drops that level
    and later ones; what was written to the database inside it is WRITTEN there alone, and pending again below.

    Savepoints are SQLAlchemy's NestedTransactions.
    """

    def __init__(self) -> None:
        self._levels = [Level()]
        self._last_was_rollback = False

    def upsert(
        self,
        ref: Ref,
        text: str,
        emphasis: str = "",
        gaps: tuple[int, ...] = (),
        tenant: str | None = None,
        extent: Extent = FULL,
    ) -> None:
        tenant = ref.tenant if tenant is None else tenant
        self._levels[-1].changes[ref] = Content(text, emphasis, gaps, tenant, extent)

    def delete(self, ref: Ref) -> None:
        self._levels[-1].changes[ref] = DELETED

    def read_later(self, ref: Ref) -> None:
        self._levels[-1].changes[ref] = TO_READ

    def read_block_later(self, entity: str, ids: Sequence[str]) -> None:
        """Have the content of many records of an entity read before the commit; replaces earlier changes of theirs."""
        block = IdBlock(entity, ids)
        folded, top = self._folded(), self._levels[-1]
        top.changes.update((ref, TO_READ) for ref in block.refs() if ref in folded)
        top.blocks.append(block)

    def note_former(self, ref: Ref, tenant: str) -> None:
        """A record that changes had this tenant."""
        self._levels[-1].former.setdefault(ref, set()).add(tenant)

    def former(self, refs: Iterable[Ref]) -> dict[Ref, set[str]]:
        """The noted tenants of records, without those that have none."""
        levels = [level.former for level in self._levels if level.former]
        if not levels:
            return {}
        noted = {ref: {tenant for former in levels for tenant in former.get(ref, ())} for ref in refs}
        return {ref: tenants for ref, tenants in noted.items() if tenants}

    def open_savepoint(self) -> None:
        """A savepoint is about to be set; `bind` gives its NestedTransaction."""
        self._levels.append(Level())

    def bind(self, current: object | None) -> None:
        """`current` is the innermost savepoint. One that ended while a later one was open had no event of its own."""
        top = self._levels[-1]
        ended = next((n for n, level in enumerate(self._levels) if n and level.has_ended()), None)
        if ended is not None:
            self._end(ended, is_rollback=self._last_was_rollback)
        elif len(self._levels) > 1 and top.savepoint is None and current is not None:
            if any(level.is_of(current) for level in self._levels):  # the newer savepoint could not be set
                self._end(len(self._levels) - 1, is_rollback=False)
            else:
                top.savepoint = weak(current)

    def roll_back(self, savepoint: object) -> None:
        """The savepoint was rolled back, and with it every later one. One without a level was set before the first
        change."""
        self._last_was_rollback = True
        depth = self._depth(savepoint)
        if depth is None:
            self._levels = [Level()]
        else:
            self._end(depth, is_rollback=True)

    def release(self, savepoint: object) -> None:
        """The savepoint's changes, and those of every later one, become those of the level around it."""
        self._last_was_rollback = False
        if (depth := self._depth(savepoint)) is not None:
            self._end(depth, is_rollback=False)

    def pending(self) -> dict[Ref, Change]:
        """What is still to be written, blocks excepted, in the order of each record's first change."""
        return {ref: change for ref, change in self._folded().items() if change is not WRITTEN}

    def blocks(self) -> list[IdBlock]:
        """The blocks that are still to be written."""
        written = {block for level in self._levels for block in level.written}
        return [block for level in self._levels for block in level.blocks if block not in written]

    def refs_of(self, block: IdBlock) -> list[Ref]:
        """A block's records without those that changed later, which `pending` returns."""
        folded = self._folded()
        return [ref for ref in block.refs() if ref not in folded]

    def written(self, refs: Iterable[Ref], blocks: Iterable[IdBlock] = ()) -> None:
        """The pending changes of these were written to the database."""
        top = self._levels[-1]
        if len(self._levels) > 1:
            folded = self._folded()
            top.changes.update((ref, WRITTEN) for ref in refs if ref in folded)
            top.written.update(blocks)
            return
        for ref in refs:
            top.changes.pop(ref, None)
        for block in blocks:
            top.blocks.remove(block)

    def _folded(self) -> Mapping[Ref, Change]:
        if len(self._levels) == 1:
            return self._levels[0].changes
        folded: dict[Ref, Change] = {}
        for level in self._levels:
            folded |= level.changes
        return folded

    def _end(self, depth: int, *, is_rollback: bool) -> None:
        below = self._levels[depth - 1]
        for level in [] if is_rollback else self._levels[depth:]:
            below.changes.update(level.changes)
            below.blocks += level.blocks
            below.written |= level.written
            for ref, tenants in level.former.items():
                below.former.setdefault(ref, set()).update(tenants)
        del self._levels[depth:]

    def _depth(self, savepoint: object) -> int | None:
        return next((n for n, level in enumerate(self._levels) if n and level.is_of(savepoint)), None)
