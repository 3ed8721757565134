"""What one database transaction has to do to the index: the last change of each record, savepoints included.

A level is opened by each savepoint and dropped when that is rolled back. What was written to the database inside a
savepoint stays known there as written: rolling it back makes the levels below it pending again. Records of statements
that change many rows are kept as slices of ids, each one text, so that a million of them take a few megabytes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple
from weakref import ref as weak

from ..values import Ref

SEPARATOR = "\0"  # no record id has one


class Put(NamedTuple):
    """The record's content; `emphasis` is what of it counts again for keywords."""

    content: str
    emphasis: str = ""


class Word(Enum):
    """DROP: the record is gone. LOAD: its content is to be read from its table. WRITTEN: the index has it already."""

    DROP = "drop"
    LOAD = "load"
    WRITTEN = "written"


DROP: Final = Word.DROP
LOAD: Final = Word.LOAD
WRITTEN: Final = Word.WRITTEN

Change = Put | Word


class Slice:
    """Records of one entity that are to be read from their table."""

    __slots__ = ("_ids", "entity")

    def __init__(self, entity: str, ids: Iterable[str]) -> None:
        self.entity = entity
        self._ids = SEPARATOR.join(ids)

    def refs(self) -> Iterator[Ref]:
        return (Ref(self.entity, id_) for id_ in self._ids.split(SEPARATOR))


class Level:
    """`savepoint` is None for the transaction itself, and for a savepoint that is not known yet. `written` are slices,
    of this level or those below, that went to the database here."""

    def __init__(self) -> None:
        self.savepoint: Any = None
        self.changes: dict[Ref, Change] = {}
        self.slices: list[Slice] = []
        self.written: set[Slice] = set()

    def is_of(self, savepoint: object) -> bool:
        return self.savepoint is not None and self.savepoint() is savepoint

    def has_ended(self) -> bool:
        if self.savepoint is None:
            return False
        savepoint = self.savepoint()
        return savepoint is None or not getattr(savepoint, "is_active", True)


class Queue:
    """Savepoints are SQLAlchemy's NestedTransactions."""

    def __init__(self) -> None:
        self._levels = [Level()]
        self._last_was_cut = False

    def put(self, ref: Ref, content: str, emphasis: str = "") -> None:
        self._levels[-1].changes[ref] = Put(content, emphasis)

    def drop(self, ref: Ref) -> None:
        self._levels[-1].changes[ref] = DROP

    def load(self, ref: Ref) -> None:
        self._levels[-1].changes[ref] = LOAD

    def load_slice(self, entity: str, ids: Sequence[str]) -> None:
        """Many records at once; what was known of one of them before is forgotten for it."""
        made = Slice(entity, ids)
        known, top = self._folded(), self._levels[-1]
        top.changes.update((ref, LOAD) for ref in made.refs() if ref in known)
        top.slices.append(made)

    def mark(self) -> None:
        """A savepoint is about to be set; `bind` names it."""
        self._levels.append(Level())

    def bind(self, current: object | None) -> None:
        """`current` is the innermost savepoint. One that ended while a later one was open had no event of its own."""
        top = self._levels[-1]
        ended = next((n for n, level in enumerate(self._levels) if n and level.has_ended()), None)
        if ended is not None:
            self._end(ended, is_cut=self._last_was_cut)
        elif len(self._levels) > 1 and top.savepoint is None and current is not None:
            if any(level.is_of(current) for level in self._levels):  # the newer savepoint could not be set
                self._end(len(self._levels) - 1, is_cut=False)
            else:
                top.savepoint = weak(current)

    def cut(self, savepoint: object) -> None:
        """The savepoint was rolled back, and with it every later one. One that is not known here was set before the
        first change."""
        self._last_was_cut = True
        depth = self._depth(savepoint)
        if depth is None:
            self._levels = [Level()]
        else:
            self._end(depth, is_cut=True)

    def release(self, savepoint: object) -> None:
        """The savepoint's changes, and those of every later one, are now those of what stands around it."""
        self._last_was_cut = False
        if (depth := self._depth(savepoint)) is not None:
            self._end(depth, is_cut=False)

    def pending(self) -> dict[Ref, Change]:
        """What is still to be written, slices excepted, in the order of each record's first mention."""
        return {ref: change for ref, change in self._folded().items() if change is not WRITTEN}

    def slices(self) -> list[Slice]:
        """Those that are still to be written."""
        written = {made for level in self._levels for made in level.written}
        return [made for level in self._levels for made in level.slices if made not in written]

    def refs_of(self, made: Slice) -> list[Ref]:
        """A slice's records without those that changed later, which `pending` has."""
        known = self._folded()
        return [ref for ref in made.refs() if ref not in known]

    def settle(self, written: Iterable[Ref], slices: Iterable[Slice] = ()) -> None:
        """These went to the database as the transaction stands now."""
        top = self._levels[-1]
        if len(self._levels) > 1:
            known = self._folded()
            top.changes.update((ref, WRITTEN) for ref in written if ref in known)
            top.written.update(slices)
            return
        for ref in written:
            top.changes.pop(ref, None)
        for made in slices:
            top.slices.remove(made)

    def _folded(self) -> Mapping[Ref, Change]:
        if len(self._levels) == 1:
            return self._levels[0].changes
        folded: dict[Ref, Change] = {}
        for level in self._levels:
            folded |= level.changes
        return folded

    def _end(self, depth: int, *, is_cut: bool) -> None:
        below = self._levels[depth - 1]
        for level in [] if is_cut else self._levels[depth:]:
            below.changes.update(level.changes)
            below.slices += level.slices
            below.written |= level.written
        del self._levels[depth:]

    def _depth(self, savepoint: object) -> int | None:
        return next((n for n, level in enumerate(self._levels) if n and level.is_of(savepoint)), None)
