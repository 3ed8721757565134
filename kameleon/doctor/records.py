"""Checks that the index holds what the tables do. Imports `values` and `errors`."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from ..errors import Outdated
from ..values import Ref
from .findings import Finding, Tally
from .scan import Scan
from .sources import Source


def duplicates(scan: Scan) -> Iterator[Finding]:
    tally = Tally()
    for _, found in scan.pages(scan.store.health.duplicates):
        tally.add(found)
    yield from tally.findings(
        "duplicate",
        "records that have several rows in kdb_search, whose unique key is lost",
        "delete all rows of these records, make (entity_name, record_id) unique again, and `kameleon doctor --fix`",
    )


def compared(scan: Scan, source: Source) -> Iterator[Finding]:
    """Whether the index holds what the rows of a source do."""
    missing, stale, orphaned = Tally(), Tally(), Tally()
    for _, ((absent, changed),) in scan.pages(partial(_differing, scan, source)):
        missing.add(absent)
        stale.add(changed)
        _repair(scan, source, [*absent, *changed])
    for _, found in scan.pages(partial(_without_row, scan, source)):
        orphaned.add(found)
        _repair(scan, source, found)
    cure = "`kameleon doctor --fix`"
    for check, tally, message in (
        ("missing", missing, "rows that are not in the index"),
        ("stale", stale, "rows whose content differs from the index"),
        ("orphaned", orphaned, "records in the index whose row is gone, or to be kept out"),
    ):
        yield from tally.findings(check, message, cure, is_fixed=scan.fix)


def _differing(
    scan: Scan, source: Source, connection: Connection, *, after: Any, limit: int
) -> tuple[list[tuple[list[Ref], list[Ref]]], Any]:
    """Of the next rows, those that are missing and those that are stale."""
    contents, further = source.page(connection, after, limit)
    entries = [entry for entry in contents.values() if entry is not None]
    states = scan.store.contents.states(connection, [entry.ref for entry in entries], None)
    missing = [e.ref for e in entries if e.ref not in states]
    stale = [e.ref for e in entries if e.ref in states and states[e.ref].content_hash != e.content_hash]
    return [(missing, stale)], further


def _without_row(
    scan: Scan, source: Source, connection: Connection, *, after: Any, limit: int
) -> tuple[list[Ref], Any]:
    last = Ref(source.entity, after or "")
    ids = [ref.id for ref in scan.store.health.refs_after(connection, source.entity, last, limit)]
    contents = source.contents(connection, ids) if ids else {}
    return [Ref(source.entity, id_) for id_ in ids if contents[id_] is None], ids[-1] if ids else None


def _repair(scan: Scan, source: Source, refs: Sequence[Ref]) -> None:
    if scan.fix and refs:
        scan.index.retried(partial(_write, scan, source, [ref.id for ref in refs]))


def _write(scan: Scan, source: Source, ids: Sequence[str]) -> None:
    with scan.snapshot() as connection:
        contents = source.contents(connection, ids)
    plan = scan.index.plan([entry for entry in contents.values() if entry is not None])
    gone = [Ref(source.entity, id_) for id_, entry in contents.items() if entry is None]
    with scan.index.transaction() as connection:
        scan.index.check_current(plan, connection)
        scan.index.apply(plan, connection)
        scan.index.delete(gone, connection)
        if source.contents(connection, ids) != contents:
            raise Outdated(f"rows of {source.entity} kept being changed by others. Try again")
