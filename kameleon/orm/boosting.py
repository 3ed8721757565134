"""Finds the boosts that mapped classes are declared with. Imports `indexing` and `search`."""

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from ..indexing.index import Index
from ..search.boost_sets import ClassBoosts
from .callers import sessions_of
from .columns import ClassFields
from .mapping import Mapped
from .unindexed import is_here

ABSENT_S = 60.0
"""Bounds how long it is remembered that a class has no table in a database, in seconds. Chosen, not measured."""


class BoostedClasses:
    """Of one index. `_absent` are the entities of classes whose tables its database lacked, each with the time from
    which on it is looked for again; `_present` of those that it had."""

    def __init__(self, index: Index, clock: Callable[[], float] = time.monotonic) -> None:
        self._index = index
        self._clock = clock
        self._present: set[str] = set()
        self._absent: dict[str, float] = {}

    def of(
        self, names: Sequence[object], given: Sequence[object], connection: Connection | None
    ) -> tuple[ClassBoosts, ...]:
        """The boosts of the classes of these entities, of every one where none is named. Those of a class that is not
        `given` itself are left out where another database has its table, and this one at most records of that name."""
        mappings = sessions_of(self._index).mappings
        boosted = mappings.boosted()
        wanted = sorted(boosted) if not names else [name for name in map(str, names) if name in boosted]
        found = [mapped for name in wanted if (mapped := mappings.named(name)) is not None]
        classes = tuple(one for one in given if isinstance(one, type))
        return tuple(
            self._made(mapped)
            for mapped in found
            if any(issubclass(one, mapped.owner.class_) for one in classes) or self._is_here(mapped, connection)
        )

    def _made(self, mapped: Mapped) -> ClassBoosts:
        fields = ClassFields(mapped, mapped.owner.class_, (mapped.entity,), self._index.store.keys)
        return ClassBoosts(mapped.entity, mapped.declaration.boosts, fields)

    def _is_here(self, mapped: Mapped, connection: Connection | None) -> bool:
        entity = mapped.entity
        if entity not in self._present and self._clock() >= self._absent.get(entity, 0.0):
            with self._index.preserving(connection) as conn:
                if is_here(conn, mapped):
                    self._present.add(entity)
            self._absent[entity] = self._clock() + ABSENT_S
        return entity in self._present
