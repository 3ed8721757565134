"""Segments and postings that an engine remembers, within a budget of bytes. Pure. Imports `forking`.

Segments are keyed by their random 64-bit numbers. A segment never changes, so that an entry is right wherever its
segment is live, which each query reads anew: a database that was restored, replaced or rolled back has other numbers,
or the same bytes. What is remembered of a tail is kept with its state, the numbers and random marks of its rows, which
each query compares in the same way.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from threading import Lock
from typing import Any

from ..forking import per_process
from .dialect import Partitions

BUDGET = 64 * 2**20
"""Bounds what an engine remembers, in bytes: the postings of 1,000,000 records of 35 words take 179 MB, those of common
words a tenth. Chosen, not measured."""
ENTRY_BYTES = 300
"""About what Python takes for an entry beside its arrays."""


class SegmentCache:
    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self.size = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._segments: dict[Partitions, tuple[int, ...]] = {}

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    def segments(self, partitions: Partitions) -> tuple[int, ...]:
        """Those that were live when these partitions were last read."""
        return self._segments.get(partitions, ())

    def note_segments(self, partitions: Partitions, segments: tuple[int, ...]) -> None:
        with self._lock:
            if len(self._segments) >= self.budget // ENTRY_BYTES:
                self._segments.clear()
            self._segments[partitions] = segments

    def get(self, key: Hashable) -> Any:
        return self.get_many((key,))[0]

    def get_many(self, keys: Iterable[Hashable]) -> list[Any]:
        """None for each that is not remembered."""
        found = []
        entries = self._entries
        with self._lock:
            for key in keys:
                entry = entries.get(key)
                if entry is not None:
                    entries.move_to_end(key)
                found.append(entry and entry[0])
        return found

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Forgets what was used longest ago where there is no room."""
        size += ENTRY_BYTES
        if size > self.budget:
            return
        with self._lock:
            _, before = self._entries.pop(key, (None, 0))
            self._entries[key] = value, size
            self.size += size - before
            while self.size > self.budget:
                _, (_, gone) = self._entries.popitem(last=False)
                self.size -= gone
