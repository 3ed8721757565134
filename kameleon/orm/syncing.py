"""Indexes what is missing: rows that triggers marked, rows of imported classes that are not in the index, pending
embeddings. Imports `values`, `errors`, `stores` and `indexing`."""

import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from ..errors import StorageError
from ..indexing.index import Index
from ..indexing.writer import Progress
from ..stores.claims import CLAIM_LEASE, worker_name
from ..values import IndexReport, IndexStatus, Tenants
from .callers import sessions_of
from .table_entities import declare_tables, problems_of_tables

if TYPE_CHECKING:
    from .redefined import Redefined
    from .unindexed import Unindexed


def sync(
    index: Index,
    batch_size: int,
    *,
    retry_failed: bool = False,
    tenants: Tenants = None,
    progress: Progress | None = None,
    only_marked: bool = False,
) -> IndexReport:
    if only_marked:
        report = _marked(index, batch_size)
        index.maintain()
        return report
    with index.reading() as connection:
        declare_tables(index, connection)
    report = _redefined(index).index_all(batch_size, progress) if _has_classes() and tenants is None else IndexReport()
    report += _marked(index, batch_size)
    with index.reading() as connection:  # a table may have been removed meanwhile
        declare_tables(index, connection)
    if (unindexed := _unindexed(index)) is not None:
        report += unindexed.index(batch_size)
    filled = IndexReport()
    if not _has_classes() or _embeds(index):
        fill = index.filling.fill
        filled = fill(batch_size=batch_size, retry_failed=retry_failed, progress=progress, tenants=tenants)
    if not filled.outage:
        index.index_vectors()
    index.services.evict(is_whole=True)
    index.keywords.maintain_all()
    return report + filled


def _embeds(index: Index) -> bool:
    """Whether there is a provider, or were embeddings: an index of keywords alone has none to make."""
    return index.services.provider is not None or bool(index.generations())


def _marked(index: Index, batch_size: int) -> IndexReport:
    """Index the rows that are marked now, those that others have claimed last; what is marked meanwhile is left."""
    report, worker, seq = IndexReport(), worker_name(), index.tables.dirty.c.seq
    with index.reading() as connection:
        upto = connection.scalar(select(func.max(seq)))
    for takes_over in (False, True) if upto is not None else ():
        indexing = partial(index_marked, index, batch_size, worker=worker, takes_over=takes_over, upto=upto)
        while (indexed := indexing()) is not None:
            report += replace(indexed, unchanged=0)
    return report


def index_marked(
    index: Index,
    limit: int = 1000,
    *,
    worker: str | None = None,
    lease: timedelta = CLAIM_LEASE,
    takes_over: bool = False,
    upto: int | None = None,
) -> IndexReport | None:
    """Index up to `limit` rows that triggers marked, as they are now; None if none is due. They are `worker`'s alone
    until the `lease` ends; `takes_over` those that others have claimed, too; `upto` those of marks up to this one.
    Marks whose classes are not imported are logged and noted in the status."""
    with index.reading() as conn:
        if conn.execute(select(index.tables.dirty.c.seq).limit(1)).first() is None:
            return None
        declare_tables(index, conn)
        tracking = sessions_of(index).tracking
        unknown = tracking.unknown(conn)
    note = f"rows of {', '.join(unknown)} are marked, and no class of that name is imported here" if unknown else ""
    index.services.notices.report("marks", note)
    worker = worker or worker_name()
    try:
        return tracking.catch_up(limit, worker, lease, takes_over=takes_over, upto=upto)
    except StorageError:
        if not _has_changed_tables(index):
            raise
        return index_marked(index, limit, worker=worker, lease=lease, takes_over=takes_over, upto=upto)


def status(index: Index, entity: str | None = None, tenants: Tenants = None, *, logs: bool = True) -> list[IndexStatus]:
    """The IndexStatus of each entity, by name; of `entity` alone if that is given. It `logs` the classes whose records
    are to be indexed again."""
    with index.reading(tenants=tenants or ()) as conn:
        declare_tables(index, conn)
        generations = index.catalog.generations(conn)
        reported = index.services.reported(generations)
        has_provider = index.services.provider is not None
        found = index.store.embeddings.status(conn, reported, has_provider=has_provider, tenants=tenants)
        rows = _unindexed(index)
        unindexed = rows.counts(conn, tenants) if rows is not None else {}
        if logs and _has_classes():
            _redefined(index).report(conn)
        missing = index.missing_vector_index(conn, generations)
    problems = [problem for problem in (index.services.problem(generations), missing) if problem]
    note = index.services.notices.joined("; ".join(problems))
    entities = {status.entity for status in found}
    found += [IndexStatus(name, 0, 0, None) for name in sorted(unindexed) if unindexed[name] and name not in entities]
    return [
        replace(
            status,
            note=note,
            unindexed=unindexed.get(status.entity, 0),
            keyword_search=index.store.settings.keyword_search,
        )
        for status in found
        if entity in (None, status.entity)
    ]


def _has_changed_tables(index: Index) -> bool:
    """Whether tables were changed since their classes were made, so that they cannot be read any more: their marks are
    left, and those of others worked off."""
    before = problems_of_tables(index)
    with index.reading() as connection:
        declare_tables(index, connection, again=True)
    return problems_of_tables(index) != before


def _has_classes() -> bool:
    """False where no class can be declared: the ORM is not imported."""
    return "kameleon.orm.declaration" in sys.modules


def _redefined(index: Index) -> "Redefined":
    from .redefined import Redefined

    return index.part(Redefined)


def _unindexed(index: Index) -> "Unindexed | None":
    if not _has_classes():
        return None
    from .unindexed import Unindexed

    return index.part(Unindexed)
