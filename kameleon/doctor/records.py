"""Checks that the index holds what the tables do. Imports the index."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from ..errors import Outdated
from ..values import Ref
from .findings import Finding, Tally
from .scan import Scan
from .sources import Source


class RecordChecks:
    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.index = scan.index
        self.store = scan.store

    def duplicates(self) -> Iterator[Finding]:
        tally = Tally()
        for _, found in self.scan.pages(self.store.health.duplicates):
            tally.add(found)
        yield from tally.findings(
            "duplicate",
            "records that have several rows in kdb_search, whose unique key is lost",
            "delete all rows of these records, make (entity_name, record_id) unique again, and `kameleon doctor --fix`",
        )

    def compared(self, source: Source) -> Iterator[Finding]:
        """Whether the index holds what the rows of a source do."""
        missing, stale, orphaned = Tally(), Tally(), Tally()
        for _, ((absent, changed),) in self.scan.pages(partial(self._differing, source)):
            missing.add(absent)
            stale.add(changed)
            self._repair(source, [*absent, *changed])
        for _, found in self.scan.pages(partial(self._without_row, source)):
            orphaned.add(found)
            self._repair(source, found)
        cure = "`kameleon doctor --fix`"
        for check, tally, message in (
            ("missing", missing, "rows that are not in the index"),
            ("stale", stale, "rows whose content differs from the index"),
            ("orphaned", orphaned, "records in the index whose row is gone, or to be kept out"),
        ):
            yield from tally.findings(check, message, cure, is_fixed=self.scan.fix)

    def _differing(
        self, source: Source, connection: Connection, *, after: Any, limit: int
    ) -> tuple[list[tuple[list[Ref], list[Ref]]], Any]:
        """Of the next rows, those that are missing and those that are stale."""
        contents, further = source.page(connection, after, limit)
        entries = [entry for entry in contents.values() if entry is not None]
        states = self.store.contents.states(connection, [entry.ref for entry in entries], None)
        missing = [e.ref for e in entries if e.ref not in states]
        stale = [e.ref for e in entries if e.ref in states and states[e.ref].content_hash != e.content_hash]
        return [(missing, stale)], further

    def _without_row(self, source: Source, connection: Connection, *, after: Any, limit: int) -> tuple[list[Ref], Any]:
        ids = self.store.health.ids_after(connection, source.entity, after or "", limit)
        contents = source.contents(connection, ids) if ids else {}
        return [Ref(source.entity, id_) for id_ in ids if contents[id_] is None], ids[-1] if ids else None

    def _repair(self, source: Source, refs: Sequence[Ref]) -> None:
        if self.scan.fix and refs:
            self.index.retried(partial(self._write, source, [ref.id for ref in refs]))

    def _write(self, source: Source, ids: Sequence[str]) -> None:
        with self.scan.snapshot() as connection:
            contents = source.contents(connection, ids)
        plan = self.index.plan([entry for entry in contents.values() if entry is not None])
        gone = [Ref(source.entity, id_) for id_, entry in contents.items() if entry is None]
        with self.index.transaction() as connection:
            self.index.check_current(plan, connection)
            self.index.apply(plan, connection)
            self.index.delete(gone, connection)
            if source.contents(connection, ids) != contents:
                raise Outdated(f"rows of {source.entity} kept being changed by others. Try again")
