"""Indexes rows of a searchable class as they are. Imports `values`, `errors`, `content`, `stores` and `indexing`."""

import logging
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from ..content import Content
from ..errors import InvalidInput, InvalidRecord, Outdated
from ..indexing.ahead import embed_ahead
from ..indexing.index import Index
from ..indexing.writer import Indexing
from ..stores.tables import parts
from ..values import IndexReport, Ref
from .callers import sessions_of
from .identity import key_attributes
from .mapping import KEYS_A_STATEMENT, Mapped
from .reflection.definition import held

log = logging.getLogger("kameleon.sessions")


def index_rows(
    index: Index,
    mapped: Mapped,
    ids: Sequence[str],
    *,
    unique: Collection[str] | None = None,
    indexing: Indexing = "sync",
) -> IndexReport:
    """Index the rows of these ids in a transaction, or in several while others change them, and delete those that are
    kept out. One whose content fails is logged and stays as it was. `unique` is as in `write_changes`."""
    unique = ({mapped.entity} if mapped.has_tenants else ()) if unique is None else unique
    report, done = IndexReport(), 0
    while left := ids[done:]:
        write = partial(_write, index, mapped, left, unique, indexing)
        made, count = index.retried_with_less(write, len(left))
        report, done = report + made, done + count
    return report


def _write(
    index: Index, mapped: Mapped, ids: Sequence[str], unique: Collection[str], indexing: Indexing, limit: int
) -> tuple[IndexReport, int]:
    """Write the contents of the first rows if they are the same in the transaction that writes them: another
    transaction may have changed the rows since they were read. Returns how many rows these are."""
    ids = ids[:limit]
    with index.reading() as connection:
        values = _values(connection, mapped, ids)
        contents = _contents(index, connection, mapped, ids)
    if not contents:
        return IndexReport(), len(ids)
    present = {ref: content for ref, content in contents.items() if content is not None}
    gone = [ref for ref in contents if ref not in present]
    ahead = embed_ahead(index, present, [], connection=None, indexing=indexing, unique=unique)
    with index.transaction() as connection:
        if mapped.declaration.of_table is not None and not held(index, connection, [mapped.entity]):
            raise InvalidInput(f"the table of {mapped.entity} was removed, or defined otherwise, meanwhile")
        mapped.lock(index.store.connections, connection, ids)
        report = index.write_changes(
            connection, present, gone, unique=unique, ahead=ahead, indexing=indexing, budget_s=0
        )
        is_same = (
            _contents(index, connection, mapped, [ref.id for ref in contents]) == contents
            if values is None
            else _values(connection, mapped, ids) == values
        )
        if not is_same:
            raise Outdated(f"rows of {mapped.entity} kept being changed by others. Try again")
    return report, len(ids)


def _values(connection: Connection, mapped: Mapped, ids: Sequence[str]) -> list[Sequence[Any]] | None:
    """The columns of rows that their contents are made of, which cost less to read than objects; None for a class whose
    contents are made of more."""
    inherits = mapped.owner.inherits is not None or len(list(mapped.owner.self_and_descendants)) > 1
    if inherits or mapped.paths or mapped.watched is None or mapped.declaration.content is not None:
        return None
    cls = mapped.owner.class_
    columns = [getattr(cls, name) for name in dict.fromkeys([*mapped.key_names, *mapped.columns])]
    rows = mapped.meeting(select(*columns).order_by(*key_attributes(mapped.owner)))
    keys = parts(mapped.keys_of(ids), KEYS_A_STATEMENT)
    return [tuple(row) for part in keys for row in connection.execute(mapped.among(rows, part))]


def _contents(index: Index, connection: Connection, mapped: Mapped, ids: Sequence[str]) -> dict[Ref, Content | None]:
    failed: dict[Ref, InvalidRecord] = {}
    refs = [Ref(mapped.entity, id_) for id_ in ids]
    read = sessions_of(index).pending.read_each(connection, refs, failed)
    for error in failed.values():
        log.warning("not indexed: %s", error)
    return read
