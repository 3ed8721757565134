"""`kdb_queue`, records whose embedding is left to a worker, and `kdb_dirty`, rows that triggers marked: claimed by one
of many workers until its lease ends. Imports `values`.

A row is due when its `due_at` has passed: a claim moves that into the future, so a worker that dies loses its claim.
`version` is new with each edit, so that a worker leaves a row that was edited since. A claim of the oldest of a
record's marks covers them all; one that is set later is not deleted with them, and claimed again.
"""

import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, exists, false, or_, select, update

from ..values import Ref
from .tables import IDS_A_STATEMENT, parts

CLAIM_LEASE = timedelta(minutes=5)
"""Longer than a batch takes to embed. Chosen, not measured."""


def worker_name() -> str:
    """Makes a new name, of machine and process."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


class Claim(NamedTuple):
    ref: Ref
    version: str
    attempts: int


class Mark(NamedTuple):
    seq: int
    ref: Ref


def rows_of(refs: Iterable[Ref], now: datetime) -> list[dict[str, Any]]:
    """Makes rows that queue these records, in the order of their keys."""
    return [
        {
            "tenant": ref.tenant,
            "entity_name": ref.entity,
            "record_id": ref.id,
            "version": secrets.token_hex(8),
            "due_at": now,
            "claimed_by": None,
            "attempts": 0,
        }
        for ref in sorted(refs, key=attrgetter("key"))
    ]


def replacing(insert: Any, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Sequence[Mapping[str, Any]]]:
    """Renders a dialect's insert into the queue, where a newer edit replaces an older, and its rows."""
    new = insert.excluded
    changes = {name: getattr(new, name) for name in ("version", "due_at", "claimed_by", "attempts")}
    return insert.on_conflict_do_update(index_elements=["tenant", "entity_name", "record_id"], set_=changes), rows


def claim(
    connection: Connection, queue: Table, worker: str, *, limit: int, now: datetime, lease: timedelta, may_skip: bool
) -> list[Claim]:
    """Claims the longest due rows that no other worker holds, until the lease ends."""
    attempts = queue.c.attempts + 1
    rows = claim_due(
        connection, queue, limit=limit, now=now, lease=lease, may_skip=may_skip, claimed_by=worker, attempts=attempts
    )
    found = (Claim(Ref(row.entity_name, row.record_id, row.tenant), row.version, row.attempts) for row in rows)
    return sorted(found, key=lambda claim: claim.ref.key)


def claim_due(
    connection: Connection,
    table: Table,
    *conditions: ColumnElement[bool],
    limit: int,
    now: datetime,
    lease: timedelta,
    may_skip: bool,
    **changes: Any,
) -> Sequence[Any]:
    """Claims the longest due rows of a table, until the lease ends, and makes `changes` to them. `may_skip` skips what
    another is claiming at this moment, where the database can."""
    keys, is_due = list(table.primary_key.columns), table.c.due_at <= now
    due = select(*keys).where(is_due, *conditions).order_by(table.c.due_at, *keys).limit(limit)
    chosen = (due.with_for_update(skip_locked=True) if may_skip else due).cte("chosen")
    is_chosen = [key == chosen.c[key.name] for key in keys]
    claimed = update(table).where(is_due, *is_chosen).values(due_at=now + lease, **changes)
    return connection.execute(claimed.returning(*table.columns)).all()


def finish(connection: Connection, queue: Table, claims: Sequence[Claim]) -> int:
    """Deletes these, but for those that were edited since; returns how many."""
    done = 0
    for part in parts(claims, IDS_A_STATEMENT):
        done += connection.execute(queue.delete().where(*are_claimed(queue, part))).rowcount
    return done


def put_off(connection: Connection, queue: Table, claims: Sequence[Claim], until: datetime) -> None:
    """Releases these; no worker claims them before `until`."""
    for part in parts(claims, IDS_A_STATEMENT):
        later = update(queue).where(*are_claimed(queue, part))
        connection.execute(later.values(due_at=until, claimed_by=None))


def are_claimed(queue: Table, claims: Sequence[Claim]) -> list[ColumnElement[bool]]:
    """Conditions on the rows of these that were not edited since: no two have a version in common."""
    refs = [claim.ref for claim in claims]
    return [
        queue.c.tenant.in_(sorted({ref.tenant for ref in refs})),
        queue.c.entity_name.in_(sorted({ref.entity for ref in refs})),
        queue.c.record_id.in_(sorted({ref.id for ref in refs})),
        queue.c.version.in_([claim.version for claim in claims]),
    ]


def claim_marks(
    connection: Connection,
    dirty: Table,
    worker: str,
    entities: Sequence[str],
    *,
    limit: int,
    now: datetime,
    lease: timedelta,
    may_skip: bool,
    takes_over: bool = False,
    upto: int | None = None,
) -> list[Mark]:
    """Claims the oldest marked records of the entities that no other worker holds, until the lease ends; with
    `takes_over` those that others hold, too; with `upto` of the marks up to this one."""
    older = dirty.alias("older")
    is_newer = exists().where(
        older.c.entity_name == dirty.c.entity_name,
        older.c.record_id == dirty.c.record_id,
        older.c.seq < dirty.c.seq,
    )
    is_due = or_(dirty.c.due_at.is_(None), dirty.c.due_at <= now, is_held_by_another(dirty, worker, takes_over))
    oldest = select(dirty.c.seq).where(dirty.c.entity_name.in_(entities), ~is_newer, is_due)
    oldest = oldest if upto is None else oldest.where(dirty.c.seq <= upto)
    oldest = oldest.order_by(dirty.c.seq).limit(limit)
    chosen = (oldest.with_for_update(skip_locked=True, of=dirty) if may_skip else oldest).cte("chosen")
    claimed = (
        update(dirty)
        .where(dirty.c.seq == chosen.c.seq)
        .values(due_at=now + lease, claimed_by=worker)
        .returning(dirty.c.seq, dirty.c.entity_name, dirty.c.record_id)
    )
    return sorted(Mark(row.seq, Ref(row.entity_name, row.record_id)) for row in connection.execute(claimed))


def is_held_by_another(dirty: Table, worker: str, takes_over: bool) -> ColumnElement[bool]:
    return dirty.c.claimed_by != worker if takes_over else false()


def release_marks(connection: Connection, dirty: Table, worker: str, marks: Sequence[Mark]) -> None:
    """Lets other workers claim them now."""
    for part in parts(marks, IDS_A_STATEMENT):
        held = update(dirty).where(dirty.c.seq.in_([mark.seq for mark in part]), dirty.c.claimed_by == worker)
        connection.execute(held.values(due_at=None, claimed_by=None))
