"""Finds the classes whose declarations were changed since their records were indexed, and indexes these again. Imports
`values`, `errors` and `indexing`."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, func, select

from ..errors import InvalidInput, seen
from ..indexing.classes import redefined, topic
from ..indexing.index import Index
from ..indexing.writer import Indexing, Progress
from ..values import IndexReport
from .callers import sessions_of
from .identity import is_after, key_attributes
from .mapping import Mapped
from .rows import index_rows
from .unindexed import Unindexed, is_here


class Redefined:
    """Of the searchable classes that this process has imported and whose tables are in this database."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def named(self, given: object) -> Mapped:
        """The mapping of a class, or of an entity's. Raises InvalidInput."""
        mappings = sessions_of(self._index).mappings
        found = mappings.named(given) if isinstance(given, str) else mappings.searchable(given)  # type: ignore[arg-type]
        if found is None:
            names = ", ".join(mappings.names()) or "none"
            raise InvalidInput(f"no searchable class here is the entity {seen(given, 80)}. Imported: {names}")
        with self._index.reading() as connection:
            if not is_here(connection, found):
                raise InvalidInput(f"the table of {found.entity} is not in this database")
        return mappings.of_entity(found.entity)

    def problems(self, connection: Connection) -> dict[str, str]:
        """Why records are to be indexed again, by entity; empty for one whose records are not."""
        mapped = self._index.part(Unindexed).classes(connection)
        definitions = {each.entity: each.definition for each in mapped}
        found = self._index.classes.outdated(connection, definitions) if definitions else {}
        tables = {each.entity for each in mapped if each.declaration.of_table is not None}
        return {
            name: redefined(name, found[name], is_table=name in tables) if name in found else ""
            for name in sorted(definitions)
        }

    def report(self, connection: Connection) -> None:
        """Log and note them."""
        for entity, problem in self.problems(connection).items():
            self._index.services.notices.report(topic(entity), problem)

    def index_all(self, batch_size: int, progress: Progress | None = None) -> IndexReport:
        """Index the records of classes again where that is needed."""
        with self._index.reading() as connection:
            found = [entity for entity, problem in self.problems(connection).items() if problem]
        mappings = sessions_of(self._index).mappings
        report = IndexReport()
        for entity in found:
            report += self.index(mappings.of_entity(entity), batch_size, progress)
        return report

    def index(self, mapped: Mapped, batch_size: int, progress: Progress | None = None) -> IndexReport:
        """Index all rows of a class again, `batch_size` a transaction; what is as it was is not written. After an
        outage the rest is pending. One that is interrupted is completed by another. Raises StorageError where policies
        hide rows."""
        classes, entity = self._index.classes, mapped.entity
        begin = partial(classes.begin, entity=entity, now=mapped.definition)
        state = self._index.committed(begin, None)
        unique = {entity} if mapped.has_tenants or entity in self._index.tenanted() else ()
        total = self._count(mapped) if progress else 0
        report, done = IndexReport(), 0
        for ids in self._pages(mapped, batch_size):
            indexing: Indexing = "deferred" if report.outage else "sync"
            report += index_rows(self._index, mapped, ids, unique=unique, indexing=indexing)
            self._index.maintain_keywords(None)
            done += len(ids)
            if progress:
                progress(done, max(done, total))
        self._index.committed(partial(classes.complete, entity=entity, state=state))
        self._index.services.notices.report(topic(entity), "")
        return report

    def remove_gone(self, mapped: Mapped, batch_size: int) -> IndexReport:
        """Remove the records of a class whose rows are gone, `batch_size` a transaction."""
        report, after = IndexReport(), None
        while True:
            with self._index.reading() as connection:
                found = self._index.store.health.refs_after(connection, mapped.entity, after, batch_size)
                gone = mapped.without_row(connection, dict.fromkeys(ref.id for ref in found))
            if gone:
                report += index_rows(self._index, mapped, gone)
            if len(found) < batch_size:
                return report
            after = found[-1]

    def _count(self, mapped: Mapped) -> int:
        with self._index.reading() as connection:
            return connection.scalar(select(func.count()).select_from(_keys(mapped).subquery())) or 0

    def _pages(self, mapped: Mapped, size: int) -> Iterator[list[str]]:
        """The ids of its rows, in the order of their keys."""
        keys = key_attributes(mapped.owner)
        page = rows = _keys(mapped).order_by(*keys).limit(size)
        while True:
            with self._index.reading() as connection:
                found = connection.execute(page).all()
            if found:
                yield [mapped.ref(tuple(row)).id for row in found]
            if len(found) < size:
                return
            page = rows.where(is_after(keys, tuple(found[-1])))


def _keys(mapped: Mapped) -> Select[Any]:
    """A query of the keys of a class's rows."""
    cls = mapped.owner.class_
    return mapped.declaration.keyed(mapped.without_concrete(select(*key_attributes(mapped.owner)), cls))
