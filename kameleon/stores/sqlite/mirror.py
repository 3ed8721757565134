"""A generation's embeddings in memory, refreshed from the database by its change log. Imports `values`, `forking` and
`embeddings`.

Fetching 100,000 embeddings costs half a second, scoring them 10 ms; so they stay, and before each query the log is read
for the records that changed since. A log entry has a random mark: where the mark of the last entry that was read is not
the one in the database any more (a rolled-back transaction, another file), everything is read again.

Up to EXACT_BYTES the embeddings themselves are kept. Above, each is kept as its projection onto the directions in which
a sample spreads most (principal components, uncentred: a cosine is what they are to keep). The projections choose the
candidates, and the table's own embeddings of these are scored: scores are exact, the choice nearly always.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, TextClause, text

from ...embeddings.provider import Vector
from ...forking import per_process
from ...values import Tenants
from ..names import Names
from ..own_connections import is_own
from .comparing import Accept, Codes, Floats, Ids, Rows, choose, cosines, first, member, scored
from .embedding_log import Now, Position, changes_since, read_now

ROWS_AT_ONCE, IDS_AT_ONCE = 4096, 30_000
"""Rows that are fetched, and ids that are bound, in one piece. Chosen, not measured."""
EXACT_BYTES = 64 << 20
"""Embeddings that are kept as they are; more are kept as projections."""
DIRECTIONS, CANDIDATES, SAMPLE = 128, 400, 10_000
"""Dimensions of a projection, candidates that it chooses at least, and embeddings that it is computed from."""
STATES_KEPT = 8
"""States of the database that transactions may see at one time. Chosen, not measured."""
OWN_BYTES = 8_192
"""What a mirror takes besides its rows, at most. Chosen, not measured."""
ARRAYS = ("_ids", "_partitions", "_vectors")
NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class State:
    """The rows at one position: the first `size`, without those at the places `dead`."""

    size: int
    dead: Ids


class Nearest(NamedTuple):
    """Cosines of records, each of its best passage, best first; of `scanned` passages."""

    scores: dict[int, float]
    scanned: int
    is_exact: bool = True


class Statements(NamedTuple):
    """What reads a generation's embeddings, of a tenant or of all: how many there are, all, the rowids (of all tenants
    the last alone), those of some rowids, and those of some contents."""

    number: TextClause
    all: TextClause
    rowids: TextClause
    some: TextClause
    wanted: TextClause


@lru_cache(maxsize=8)
def statements(table: str, contents: str, has_tenant: bool) -> Statements:
    columns = "e.search_id, e.embedding, s.tenant, s.entity_name"
    first, then, is_theirs = f"{table} AS e", f"{contents} AS s", "e.embedding IS NOT NULL"
    count, rowids = f"SELECT count(*) FROM {table}", f"SELECT max(rowid) FROM {table}"
    if has_tenant:
        first, then, is_theirs = then, first, f"{is_theirs} AND s.tenant = :tenant"
        count, rowids = (
            f"SELECT {those} FROM {first} CROSS JOIN {then} ON s.id = e.search_id WHERE {is_theirs}"
            for those in ("count(*)", "e.rowid")
        )
    wanted = f"json_each(:wanted) AS w CROSS JOIN {table} AS e ON e"
    return Statements(
        text(count),
        text(f"SELECT {columns} FROM {first} CROSS JOIN {then} ON s.id = e.search_id WHERE {is_theirs}"),
        text(rowids),
        text(f"SELECT e.embedding FROM {wanted}.rowid = w.value WHERE e.embedding IS NOT NULL"),
        text(
            f"SELECT {columns} FROM {wanted}.search_id = w.value CROSS JOIN {contents} AS s ON s.id = e.search_id "
            f"WHERE {is_theirs}"
        ),
    )


class Mirror:
    """Of all tenants, or of one. Rows are append-only: a changed record's old rows are dead and its new ones appended.
    A position's state is kept a while: transactions of several threads may see several. Where a change was cut short,
    by an error or a fork, everything is read again."""

    def __init__(self, names: Names, number: int, dimensions: int, tenant: str | None = None) -> None:
        self._names = names
        self._dimensions = dimensions
        self._tenant = tenant
        self._of_tenant = {} if tenant is None else {"tenant": tenant}
        self._sql = statements(names.embeddings(number), names("kdb_search"), tenant is not None)
        self._is_changing = False
        self._read_by: WeakKeyDictionary[Any, Rows] = WeakKeyDictionary()
        self._states: OrderedDict[Position, State] = OrderedDict()
        self._filled = 0
        self._learned_from = 0
        self._directions: Floats | None = None
        self._ids: Ids = NONE
        self._partitions: Codes = np.zeros(0, np.int32)
        self._codes: dict[tuple[str, str], int] = {}
        self._vectors: Floats = np.zeros((0, dimensions), np.float32)

    @property
    def size(self) -> int:
        """In bytes."""
        return OWN_BYTES + self._ids.nbytes + self._partitions.nbytes + self._vectors.nbytes

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    def best(
        self,
        connection: Connection,
        vector: Vector,
        limit: int,
        *,
        now: Now | None = None,
        tenants: Tenants = None,
        entities: Collection[str] = (),
        allowed: Sequence[int] | None = None,
        accept: Accept | None = None,
        excluded: Sequence[int] = (),
    ) -> Nearest:
        """The `limit` records nearest by cosine, best first; ties by id. Of these `tenants` and `entities`, of all
        where none is named; of `allowed` alone, if given; those that `accept` returns of the ids that it is called
        with; none of `excluded`. `now` is the end of the log, where it was just read."""
        rows = self._rows(connection, now)
        if len(excluded):
            gone = np.flatnonzero(member(rows.ids, np.array(excluded, np.int64)))
            rows = replace(rows, dead=np.union1d(rows.dead, gone))
        places = self._of_partitions(rows, tenants, () if allowed is not None else entities)
        if allowed is not None:
            inside = _places(rows, member(rows.ids, np.array(allowed, np.int64)))
            places = inside if places is None else np.intersect1d(inside, places, assume_unique=True)
        wanted = limit if rows.directions is None else max(CANDIDATES, 2 * limit)
        if rows.directions is not None and places is not None and len(places) <= wanted:
            found = self._read(connection, vector, np.unique(rows.ids[places]))
            return Nearest(first(found, limit), len(places))
        scores = scored(rows, vector, places)
        ids = rows.ids if places is None else rows.ids[places]
        chosen = choose(ids, scores, wanted, accept)
        scanned = len(ids) - (len(rows.dead) if places is None else 0)
        if rows.directions is None:
            chosen = chosen if places is None else places[chosen]
            return Nearest(first((rows.ids[chosen], cosines(rows.vectors[chosen], vector)), limit), scanned)
        found = self._read(connection, vector, np.unique(ids[chosen]))
        return Nearest(first(found, limit), scanned, is_exact=False)

    def scores(self, connection: Connection, vector: Vector, wanted: Iterable[int]) -> dict[int, float]:
        """The cosine of each wanted record that has an embedding: of its nearest passage."""
        rows = self._rows(connection, again=True)
        ids = np.unique(np.fromiter(wanted, np.int64))
        if rows.directions is not None:
            return first(self._read(connection, vector, ids), len(ids))
        places = _places(rows, member(rows.ids, ids))
        return first((rows.ids[places], cosines(rows.vectors[places], vector)), len(ids))

    def _rows(self, connection: Connection, now: Now | None = None, *, again: bool = False) -> Rows:
        """A transaction of kameleon's own sees one state of the database, which is read once; `again` takes what `best`
        has just read in another one, too."""
        transaction = connection.get_transaction()
        if transaction is not None and (again or is_own(connection)):
            read = self._read_by.get(transaction) if is_own(connection) else self._read_by.pop(transaction, None)
            if read is not None:
                return read
        with self._lock:
            state = self._refreshed(connection, now or read_now(self._names, connection))
            end = state.size
            rows = Rows(self._ids[:end], self._partitions[:end], self._vectors[:end], self._directions, state.dead)
        if transaction is not None:
            self._read_by[transaction] = rows
        return rows

    def _of_partitions(self, rows: Rows, tenants: Tenants, entities: Collection[str]) -> Ids | None:
        """Returns the places of living rows of these tenants and entities; None for all rows."""
        if tenants is None and not entities:
            return None
        known = list(self._codes.items())
        codes = [
            code
            for (tenant, entity), code in known
            if (tenants is None or tenant in tenants) and (not entities or entity in entities)
        ]
        if len(codes) == len(known):
            return None
        return _places(rows, np.isin(rows.partitions, np.array(codes, np.int32)))

    def _read(self, connection: Connection, vector: Vector, ids: Ids) -> tuple[Ids, Floats]:
        """Every passage of these records, scored from the table."""
        parts = [
            connection.execute(self._sql.wanted, self._binds(ids[start : start + IDS_AT_ONCE])).all()
            for start in range(0, len(ids), IDS_AT_ONCE)
        ]
        found = [row for part in parts for row in part]
        matrix = np.frombuffer(b"".join(row[1] for row in found), "<f4").reshape(-1, self._dimensions)
        return np.fromiter((row[0] for row in found), np.int64, len(found)), cosines(matrix, vector)

    def _binds(self, ids: Ids) -> dict[str, str]:
        return {"wanted": as_json(ids), **self._of_tenant}

    # refresh

    def _refreshed(self, connection: Connection, now: Now) -> State:
        if self._is_changing:
            self._states.clear()
        if now.position in self._states:
            self._states.move_to_end(now.position)
            return self._states[now.position]
        self._is_changing = True
        state = self._changed(connection)
        self._states[now.position] = state
        if len(self._states) > STATES_KEPT:
            self._states.popitem(last=False)
        self._is_changing = False
        return state

    def _changed(self, connection: Connection) -> State:
        for position in reversed(self._states):
            entries = changes_since(self._names, connection, position, self._tenant)
            if entries == []:
                return self._states[position]
            changed = None if entries is None else np.unique(np.frombuffer(b"".join(entries), np.int64))
            if changed is not None and not self._has_outgrown(len(changed)):
                return self._replaced(connection, self._states[position], changed)
        return self._load(connection)

    def _has_outgrown(self, more: int) -> bool:
        """Whether what is kept of a row was decided on for far fewer rows."""
        rows = self._filled + more
        if self._directions is None:
            return 4 * rows * self._dimensions > 2 * EXACT_BYTES and self._dimensions > DIRECTIONS
        return rows > 2 * self._learned_from

    def _load(self, connection: Connection) -> State:
        rows = connection.scalar(self._sql.number, self._of_tenant) or 0
        self._states.clear()
        self._filled, self._learned_from = 0, rows
        self._directions = None
        if 4 * rows * self._dimensions > EXACT_BYTES and self._dimensions > DIRECTIONS:
            self._directions = directions(self._sampled(connection))
        width = self._dimensions if self._directions is None else DIRECTIONS
        self._vectors = np.zeros((0, width), np.float32)
        self._ids, self._partitions, self._codes = NONE, np.zeros(0, np.int32), {}
        self._reserve(rows)
        self._append(connection.execute(self._sql.all, self._of_tenant))
        return State(self._filled, NONE)

    def _sampled(self, connection: Connection) -> Floats:
        """Of a tenant in the order of its keys, so that other tenants' writes do not change it."""
        rowids, random = np.array(connection.scalars(self._sql.rowids, self._of_tenant).all()), np.random.default_rng(0)
        if self._tenant is None:
            chosen = random.integers(1, rowids[0], 2 * SAMPLE, endpoint=True)
        else:
            chosen = rowids[random.permutation(len(rowids))[:SAMPLE]]
        rows = connection.scalars(self._sql.some, {"wanted": as_json(chosen)}).all()[:SAMPLE]
        if len(rows) < self._dimensions:
            rows = [row[1] for row in connection.execute(self._sql.all, self._of_tenant).fetchmany(SAMPLE)]
        return np.frombuffer(b"".join(rows), "<f4").reshape(-1, self._dimensions)

    def _replaced(self, connection: Connection, before: State, changed: Ids) -> State:
        """Rows that another state appended are none of this one's."""
        ids = self._ids[: before.size]
        known = changed[changed <= ids.max(initial=0)]
        gone = np.flatnonzero(member(ids, known)) if len(known) else NONE
        dead = np.union1d(np.concatenate([before.dead, np.arange(before.size, self._filled)]), gone)
        for start in range(0, len(changed), IDS_AT_ONCE):
            self._append(connection.execute(self._sql.wanted, self._binds(changed[start : start + IDS_AT_ONCE])))
        if len(dead) <= self._filled // 4:
            return State(self._filled, dead)
        alive = np.delete(np.arange(self._filled), dead)
        for name in ARRAYS:
            setattr(self, name, getattr(self, name)[alive])
        self._filled = len(alive)
        self._states.clear()
        return State(self._filled, NONE)

    def _append(self, rows: Any) -> None:
        for part in rows.partitions(ROWS_AT_ONCE):
            start, end = self._filled, self._filled + len(part)
            self._reserve(end)
            self._ids[start:end] = [row[0] for row in part]
            self._partitions[start:end] = [self._codes.setdefault(row[2:4], len(self._codes)) for row in part]
            matrix = np.frombuffer(b"".join(row[1] for row in part), "<f4").reshape(len(part), self._dimensions)
            self._vectors[start:end] = matrix if self._directions is None else matrix @ self._directions
            self._filled = end

    def _reserve(self, rows: int) -> None:
        if rows <= len(self._ids):
            return
        size = max(rows, len(self._ids) + len(self._ids) // 2)
        for name in ARRAYS:
            before = getattr(self, name)
            grown = np.zeros((size, *before.shape[1:]), before.dtype)
            grown[: self._filled] = before[: self._filled]
            setattr(self, name, grown)


def _places(rows: Rows, is_wanted: NDArray[np.bool_]) -> Ids:
    """The places of wanted rows that are living."""
    is_wanted[rows.dead] = False
    return np.flatnonzero(is_wanted)


def directions(sample: Floats) -> Floats:
    """The orthogonal directions that keep most of the sample's dot products, as columns."""
    _, vectors = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(vectors[:, : -DIRECTIONS - 1 : -1], dtype=np.float32)


def as_json(ids: Ids) -> str:
    return "[" + ",".join(map(str, ids.tolist())) + "]"
