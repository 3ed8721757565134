"""Checks that the index holds what the tables do. Imports `values`, `errors`, `content`, `stores` and `indexing`."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from ..content import Content
from ..errors import Outdated
from ..indexing.ahead import embed_ahead
from ..stores.values import Entry
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
        f"records that have several rows in {scan.store.tables.names('kdb_search')}, whose unique key is lost",
        "delete all rows of these records, make (tenant, entity_name, record_id) unique again, and run "
        "`kameleon doctor --fix`",
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
        ("orphaned", orphaned, "records in the index whose row is gone, of another tenant, or to be kept out"),
    ):
        yield from tally.findings(check, message, cure, is_fixed=scan.fix)


def _differing(
    scan: Scan, source: Source, connection: Connection, *, after: Any, limit: int
) -> tuple[list[tuple[list[Ref], list[Ref]]], Any]:
    """Of the next rows, those that are missing and those that are stale."""
    read, further = source.page(connection, after, limit)
    entries = [entry for entry in read if scan.examines(entry.ref)]
    states = scan.store.contents.states(connection, [entry.ref for entry in entries], None)
    missing = [e.ref for e in entries if e.ref not in states]
    stale = [e.ref for e in entries if e.ref in states and states[e.ref].content_hash != e.content_hash]
    return [(missing, stale)], further


def _without_row(
    scan: Scan, source: Source, connection: Connection, *, after: Any, limit: int
) -> tuple[list[Ref], Any]:
    read = scan.store.health.refs_after(connection, source.entity, after, limit)
    refs = list(filter(scan.examines, read))
    contents = source.contents(connection, refs) if refs else {}
    return [ref for ref in refs if contents[ref] is None], read[-1] if read else None


def _repair(scan: Scan, source: Source, refs: Sequence[Ref]) -> None:
    if scan.fix and refs:
        scan.index.retried(partial(_write, scan, source, refs))


def _write(scan: Scan, source: Source, refs: Sequence[Ref]) -> None:
    with scan.snapshot() as connection:
        contents = source.contents(connection, refs)
    there = {_key(source, ref): _content(entry) for ref, entry in contents.items() if entry is not None}
    gone = [ref for ref, entry in contents.items() if entry is None]
    unique = {source.entity} if source.is_unique else ()
    ahead = embed_ahead(scan.index, there, [], connection=None, indexing="sync", unique=unique)
    with scan.index.transaction() as connection:
        source.lock(scan.store.connections, connection, refs)
        scan.index.write_changes(connection, there, [], unique=unique, ahead=ahead, indexing="sync", budget_s=0)
        scan.index.delete(gone, connection)
        if source.contents(connection, refs) != contents:
            raise Outdated(f"rows of {source.entity} kept being changed by others. Try again")


def _key(source: Source, ref: Ref) -> Ref:
    """What the record of a row is written under, which moves it from another tenant where its id has one record."""
    return ref._replace(tenant="") if source.is_unique else ref


def _content(entry: Entry) -> Content:
    return Content(entry.content, entry.emphasis, entry.gaps, entry.ref.tenant, entry.extent)
