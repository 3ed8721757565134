"""What one database transaction has to do to the index: the last word on each record, savepoints included.

A level is opened by each savepoint and falls away when that is rolled back. What was written to the database inside a
savepoint stays known there as written: rolling it back makes the levels below it pending again.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from .values import Ref


class Put(NamedTuple):
    """The record says `content`; `emphasis` is what of it counts again for keywords."""

    content: str
    emphasis: str = ""


class Word(Enum):
    """DROP: the record is gone. LOAD: what it says is to be read from its table. WRITTEN: the index has it already."""

    DROP = "drop"
    LOAD = "load"
    WRITTEN = "written"


DROP: Final = Word.DROP
LOAD: Final = Word.LOAD
WRITTEN: Final = Word.WRITTEN

Change = Put | Word


class Queue:
    def __init__(self) -> None:
        self._levels: list[tuple[str, dict[Ref, Change]]] = [("", {})]

    def put(self, ref: Ref, content: str, emphasis: str = "") -> None:
        self._levels[-1][1][ref] = Put(content, emphasis)

    def drop(self, ref: Ref) -> None:
        self._levels[-1][1][ref] = DROP

    def load(self, ref: Ref) -> None:
        self._levels[-1][1][ref] = LOAD

    def mark(self, savepoint: str) -> None:
        self._levels.append((savepoint, {}))

    def cut(self, savepoint: str) -> None:
        """The savepoint was rolled back, and with it every later one. One that is not known here was set before the
        first change."""
        depth = self._depth(savepoint)
        if depth is None:
            self._levels = [("", {})]
        else:
            del self._levels[depth:]

    def release(self, savepoint: str) -> None:
        """The savepoint's changes, and those of every later one, are now those of what stands around it."""
        if (depth := self._depth(savepoint)) is not None:
            for _, changes in self._levels[depth:]:
                self._levels[depth - 1][1].update(changes)
            del self._levels[depth:]

    def pending(self) -> dict[Ref, Change]:
        """What is still to be written, in the order of each record's first mention."""
        folded: dict[Ref, Change] = {}
        for _, changes in self._levels:
            folded |= changes
        return {ref: change for ref, change in folded.items() if change is not WRITTEN}

    def settle(self, written: Mapping[Ref, Change]) -> None:
        """`written` went to the database as the transaction stands now."""
        top = self._levels[-1][1]
        if len(self._levels) > 1:
            top.update(dict.fromkeys(written, WRITTEN))
            return
        for ref in written:
            top.pop(ref, None)

    def _depth(self, savepoint: str) -> int | None:
        return next((n for n, (name, _) in enumerate(self._levels) if n and name == savepoint), None)
