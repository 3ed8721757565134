"""Finds what is wrong with an index, and repairs it from the tables that it is made from. Imports `values`, `errors`,
`content` and `indexing`.

These tables are those of `@searchable` classes in this database, and those of the record store. What was indexed by
hand has nothing to be compared with, so it is never missing, stale or orphaned.

Everything is read in pages of `batch_size`, each in a short transaction that sees one state: rows and index of that
state must agree, whoever writes meanwhile. Repairs take the one write path and then read the rows again, in the same
transaction: from the write on another writer of the record waits, so a row that differs by then was newer, and all is
begun again. A role from which policies hide records repairs nothing.

Errors are what makes an index wrong: missing, stale, orphaned, leftover, duplicate, bad-vector, wrong-generation,
invalid-index, unprotected, hidden, untracked, changed-table. Warnings make it slower, larger, incomplete or at risk:
pending, redeclared, unpruned, no-wal, pgvector-version, unused-hnsw, unprotected for a role that no policy holds for,
and no-extension on PostgreSQL. Notes need no action: failed, unknown-judged, and no-extension on SQLite.
"""

from collections.abc import Iterator

from ..content import check_tenants
from ..errors import InvalidInput
from ..indexing.index import HasIndex
from ..values import ALL_TENANTS
from . import database, embeddings, judged, records, sources
from .findings import Finding
from .scan import Scan


def examine(
    search: HasIndex, *, fix: bool = False, batch_size: int = 1000, tenant: object = ALL_TENANTS
) -> list[Finding]:
    """What is wrong, in the order in which it is looked for; with `fix` repaired as it is found, where that can be done
    without deciding anything for you. Raises the database's errors, and TransactionConflict where other writers leave
    no moment to repair. With `tenant`, one or several, their records alone are compared with their rows, counted and
    embedded; the tables and the keyword index are one for all. What `for_tenant` makes is refused: the doctor is an
    operator's."""
    if hasattr(search, "tenant"):
        raise InvalidInput("the doctor examines the whole index: give it the SearchEngine, with tenant='…' for one")
    return list(findings(Scan(search.index, fix, batch_size, check_tenants(tenant))))


def findings(scan: Scan) -> Iterator[Finding]:
    """Each step leaves the database as the next needs it: indexes that can be written to before rows, rows before their
    embeddings. Leftovers go first, for on SQLite a new row may take their number. Nothing further is repaired where it
    could not be written: without a generation's table, or the unique key of kdb_search."""
    yield from database.faults(scan)
    yield from database.registry(scan)
    scan.fix = scan.fix and not scan.generations(with_table=False)
    for duplicate in records.duplicates(scan):
        scan.fix = False
        yield duplicate
    for generation in scan.generations(with_table=True):
        yield from embeddings.damaged(scan, generation)
    yield from sources.changed_tables(scan)
    yield from sources.untracked(scan)
    yield from sources.redefined(scan)
    for source in sources.sources_of(scan.index):
        if isinstance(source, Finding):
            yield source
        else:
            yield from records.compared(scan, source)
    yield from embeddings.missing(scan)
    yield from embeddings.unused_index(scan)
    yield from judged.unknown(scan)
