"""A generation's embeddings in memory, refreshed from the database by its change log. Imports `forking` and
`embeddings`.

Fetching 100,000 embeddings costs half a second, scoring them 10 ms; so they stay, and before each query the log is read
for the records that changed since. A log entry has a random mark: where the mark of the last entry that was read is not
the one in the database any more (a rolled-back transaction, another file), everything is read again.

Up to EXACT_BYTES the embeddings themselves are kept. Above, each is kept as its projection onto the directions in which
a sample spreads most (principal components, uncentred: a cosine is what they are to keep). The projections choose the
candidates, and the table's own embeddings of these are scored: scores are exact, the choice nearly always.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from ...embeddings.provider import Vector
from ...forking import per_process
from ..own_connections import is_own
from .rows import fetched

Ids = NDArray[np.int64]
Codes = NDArray[np.int32]
Floats = NDArray[np.float32]
Accept = Callable[[list[int]], Collection[int]]

LAST_ENTRY = "SELECT seq, mark FROM kdb_embedding_log ORDER BY seq DESC LIMIT 1"
ENTRIES_SINCE = text("SELECT mark, seq, changed FROM kdb_embedding_log WHERE seq >= :seq ORDER BY seq")
ROWS_AT_ONCE, IDS_AT_ONCE = 4096, 30_000
"""Rows that are fetched, and ids that are bound, in one piece. Chosen, not measured."""
EXACT_BYTES = 64 << 20
"""Embeddings that are kept as they are; more are kept as projections."""
DIRECTIONS, CANDIDATES, SAMPLE = 128, 400, 10_000
"""Dimensions of a projection, candidates that it chooses at least, and embeddings that it is computed from."""
STATES_KEPT = 8
"""States of the database that transactions may see at one time. Chosen, not measured."""
DENSE = 64
"""The largest id a row, above which ids are sorted instead. Chosen, not measured."""
TIE = np.float32(1e-6)
"""Scores that differ by less are equal but for rounding."""
NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Position:
    """How far the log was read; seq 0 is before its first entry."""

    seq: int
    mark: str | None


@dataclass(frozen=True, slots=True)
class State:
    """The rows at one position: the first `size`, without those at the places `dead`."""

    size: int
    dead: Ids


@dataclass(frozen=True, slots=True)
class Rows:
    """What one query reads. Rows are only ever appended, so it is read without the lock."""

    ids: Ids
    entities: Codes
    vectors: Floats
    directions: Floats | None
    dead: Ids


class Nearest(NamedTuple):
    """Cosines of records, each of its best passage, best first; of `scanned` passages."""

    scores: dict[int, float]
    scanned: int
    is_exact: bool = True


class Mirror:
    """Rows are append-only: a changed record's old rows are dead and its new ones appended. A position's state is kept
    a while: transactions of several threads may see several. Where a change was cut short, by an error or a fork,
    everything is read again."""

    def __init__(self, table: str, dimensions: int) -> None:
        self._dimensions = dimensions
        self._is_changing = False
        self._read_by: WeakKeyDictionary[Any, Rows] = WeakKeyDictionary()
        self._states: OrderedDict[Position, State] = OrderedDict()
        self._filled = 0
        self._learned_from = 0
        self._directions: Floats | None = None
        self._ids: Ids = NONE
        self._entities: Codes = np.zeros(0, np.int32)
        self._codes: dict[str, int] = {}
        self._vectors: Floats = np.zeros((0, dimensions), np.float32)
        self._count = text(f"SELECT count(*) FROM {table}")
        self._all = text(
            f"SELECT e.search_id, e.embedding, s.entity_name FROM {table} AS e CROSS JOIN kdb_search AS s "
            "ON s.id = e.search_id WHERE e.embedding IS NOT NULL"
        )
        self._last_row = text(f"SELECT max(rowid) FROM {table}")
        self._some = text(
            f"SELECT e.embedding FROM json_each(:wanted) AS w CROSS JOIN {table} AS e ON e.rowid = w.value "
            "WHERE e.embedding IS NOT NULL"
        )
        self._wanted = text(
            f"SELECT e.search_id, e.embedding, s.entity_name FROM json_each(:wanted) AS w "
            f"CROSS JOIN {table} AS e ON e.search_id = w.value CROSS JOIN kdb_search AS s ON s.id = e.search_id "
            "WHERE e.embedding IS NOT NULL"
        )

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    def best(
        self,
        connection: Connection,
        vector: Vector,
        limit: int,
        *,
        entities: Collection[str] = (),
        allowed: Sequence[int] | None = None,
        accept: Accept | None = None,
        excluded: Sequence[int] = (),
    ) -> Nearest:
        """The `limit` records nearest by cosine, best first; ties by id. Of `allowed` alone, if given, or of these
        `entities`, of all where none is named, those that `accept` returns of the ids that it is called with; none of
        `excluded`."""
        rows = self._rows(connection)
        if len(excluded):
            gone = np.flatnonzero(member(rows.ids, np.array(excluded, np.int64)))
            rows = replace(rows, dead=np.union1d(rows.dead, gone))
        if allowed is None:
            places = self._of_entities(rows, entities)
        else:
            places = _places(rows, member(rows.ids, np.array(allowed, np.int64)))
        wanted = limit if rows.directions is None else max(CANDIDATES, 2 * limit)
        if rows.directions is not None and places is not None and len(places) <= wanted:
            found = self._read(connection, vector, np.unique(rows.ids[places]))
            return Nearest(first(found, limit), len(places))
        scores = scored(rows, vector, places)
        ids = rows.ids if places is None else rows.ids[places]
        chosen = choose(ids, scores, wanted, accept)
        if rows.directions is None:
            chosen = chosen if places is None else places[chosen]
            return Nearest(first((rows.ids[chosen], cosines(rows.vectors[chosen], vector)), limit), len(scores))
        found = self._read(connection, vector, np.unique(ids[chosen]))
        return Nearest(first(found, limit), len(scores), is_exact=False)

    def scores(self, connection: Connection, vector: Vector, wanted: Iterable[int]) -> dict[int, float]:
        """The cosine of each wanted record that has an embedding: of its nearest passage."""
        rows = self._rows(connection, again=True)
        ids = np.unique(np.fromiter(wanted, np.int64))
        if rows.directions is not None:
            return first(self._read(connection, vector, ids), len(ids))
        places = _places(rows, member(rows.ids, ids))
        return first((rows.ids[places], cosines(rows.vectors[places], vector)), len(ids))

    def _rows(self, connection: Connection, *, again: bool = False) -> Rows:
        """A transaction of kameleon's own sees one state of the database, which is read once; `again` takes what `best`
        has just read in another one, too."""
        transaction = connection.get_transaction()
        if transaction is not None and (again or is_own(connection)):
            read = self._read_by.get(transaction) if is_own(connection) else self._read_by.pop(transaction, None)
            if read is not None:
                return read
        with self._lock:
            state = self._refreshed(connection)
            end = state.size
            rows = Rows(self._ids[:end], self._entities[:end], self._vectors[:end], self._directions, state.dead)
        if transaction is not None:
            self._read_by[transaction] = rows
        return rows

    def _of_entities(self, rows: Rows, entities: Collection[str]) -> Ids | None:
        """Returns the places of living rows of these entities; None for all rows."""
        codes = [code for name in entities if (code := self._codes.get(name)) is not None]
        if not entities or len(codes) == len(self._codes):
            return None
        return _places(rows, np.isin(rows.entities, np.array(codes, np.int32)))

    def _read(self, connection: Connection, vector: Vector, ids: Ids) -> tuple[Ids, Floats]:
        """Every passage of these records, scored from the table."""
        parts = [
            connection.execute(self._wanted, {"wanted": as_json(ids[start : start + IDS_AT_ONCE])}).all()
            for start in range(0, len(ids), IDS_AT_ONCE)
        ]
        found = [row for part in parts for row in part]
        matrix = np.frombuffer(b"".join(row[1] for row in found), "<f4").reshape(-1, self._dimensions)
        return np.fromiter((row[0] for row in found), np.int64, len(found)), cosines(matrix, vector)

    # refresh

    def _refreshed(self, connection: Connection) -> State:
        last = fetched(connection, LAST_ENTRY, {})
        now = Position(*last[0]) if last else Position(0, None)
        if self._is_changing:
            self._states.clear()
        if now in self._states:
            self._states.move_to_end(now)
            return self._states[now]
        self._is_changing = True
        state = self._changed(connection)
        self._states[now] = state
        if len(self._states) > STATES_KEPT:
            self._states.popitem(last=False)
        self._is_changing = False
        return state

    def _changed(self, connection: Connection) -> State:
        for position in reversed(self._states):
            changed = changed_since(connection, position)
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
        rows = connection.scalar(self._count) or 0
        self._states.clear()
        self._filled, self._learned_from = 0, rows
        self._directions = None
        if 4 * rows * self._dimensions > EXACT_BYTES and self._dimensions > DIRECTIONS:
            self._directions = directions(self._sampled(connection))
        width = self._dimensions if self._directions is None else DIRECTIONS
        self._vectors = np.zeros((0, width), np.float32)
        self._ids, self._entities, self._codes = NONE, np.zeros(0, np.int32), {}
        self._reserve(rows)
        self._append(connection.execute(self._all))
        return State(self._filled, NONE)

    def _sampled(self, connection: Connection) -> Floats:
        last = connection.scalar(self._last_row)
        chosen = np.random.default_rng(0).integers(1, last, 2 * SAMPLE, endpoint=True)
        rows = connection.execute(self._some, {"wanted": as_json(chosen)}).scalars().all()[:SAMPLE]
        if len(rows) < self._dimensions:
            rows = [row[1] for row in connection.execute(self._all).fetchmany(SAMPLE)]
        return np.frombuffer(b"".join(rows), "<f4").reshape(-1, self._dimensions)

    def _replaced(self, connection: Connection, before: State, changed: Ids) -> State:
        """Rows that another state appended are none of this one's."""
        ids = self._ids[: before.size]
        known = changed[changed <= ids.max(initial=0)]
        gone = np.flatnonzero(member(ids, known)) if len(known) else NONE
        dead = np.union1d(np.concatenate([before.dead, np.arange(before.size, self._filled)]), gone)
        for start in range(0, len(changed), IDS_AT_ONCE):
            wanted = as_json(changed[start : start + IDS_AT_ONCE])
            self._append(connection.execute(self._wanted, {"wanted": wanted}))
        if len(dead) <= self._filled // 4:
            return State(self._filled, dead)
        alive = np.delete(np.arange(self._filled), dead)
        self._ids, self._entities, self._vectors = self._ids[alive], self._entities[alive], self._vectors[alive]
        self._filled = len(alive)
        self._states.clear()
        return State(self._filled, NONE)

    def _append(self, rows: Any) -> None:
        for part in rows.partitions(ROWS_AT_ONCE):
            start, end = self._filled, self._filled + len(part)
            self._reserve(end)
            self._ids[start:end] = [row[0] for row in part]
            self._entities[start:end] = [self._codes.setdefault(row[2], len(self._codes)) for row in part]
            matrix = np.frombuffer(b"".join(row[1] for row in part), "<f4").reshape(len(part), self._dimensions)
            self._vectors[start:end] = matrix if self._directions is None else matrix @ self._directions
            self._filled = end

    def _reserve(self, rows: int) -> None:
        if rows <= len(self._ids):
            return
        size = max(rows, len(self._ids) + len(self._ids) // 2)
        for name in ("_ids", "_entities", "_vectors"):
            before = getattr(self, name)
            grown = np.zeros((size, *before.shape[1:]), before.dtype)
            grown[: self._filled] = before[: self._filled]
            setattr(self, name, grown)


def _places(rows: Rows, is_wanted: NDArray[np.bool_]) -> Ids:
    """The places of wanted rows that are living."""
    is_wanted[rows.dead] = False
    return np.flatnonzero(is_wanted)


def changed_since(connection: Connection, position: Position) -> Ids | None:
    """The ids of changed records, or None where the log no longer has them."""
    entries = connection.execute(ENTRIES_SINCE, {"seq": position.seq}).all()
    if position.mark is not None:
        if not entries or entries[0].mark != position.mark:
            return None
        entries = entries[1:]
    elif entries and entries[0].seq > 1:
        return None
    if any(entry.changed is None for entry in entries):
        return None
    return np.unique(np.frombuffer(b"".join(entry.changed for entry in entries), dtype=np.int64))


def directions(sample: Floats) -> Floats:
    """The orthogonal directions that keep most of the sample's dot products, as columns."""
    _, vectors = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(vectors[:, : -DIRECTIONS - 1 : -1], dtype=np.float32)


def scored(rows: Rows, vector: Vector, places: Ids | None) -> Floats:
    query = vector if rows.directions is None else np.einsum("i,ij->j", vector, rows.directions)
    if places is not None and len(places) < len(rows.ids) // 4:
        return products(rows.vectors[places], query)
    scores = products(rows.vectors, query)
    if places is not None:
        return scores[places]
    scores[rows.dead] = -np.inf
    return scores


def products(vectors: Floats, vector: Any) -> Floats:
    """The dot product of each row with a vector, on the caller's thread. That of a matrix runs on the threads of BLAS,
    which wait for work by spinning: with eight threads of searches among 30,000 embeddings it took 30 ms of CPU a
    query, this takes 7."""
    found: Floats = np.matmul(vectors[:, None, :], vector[:, None])[:, 0, 0]
    return found


def cosines(vectors: Floats, vector: Vector) -> Floats:
    """Cosines of rows with a vector: equal for equal rows at any place, which those of a matrix product are not."""
    found: Floats = np.einsum("ij,j->i", vectors, vector)
    return found


def choose(ids: Ids, scores: Floats, limit: int, accept: Accept | None) -> Ids:
    """The places of the best rows: of `limit` accepted records, and of all that tie with the last of them."""
    living = int(np.count_nonzero(scores > -np.inf))
    most = limit if accept is None else 5 * limit // 2
    answers: dict[int, bool] = {}
    while True:
        most = min(most, living)
        edge = np.partition(scores, len(scores) - most)[len(scores) - most] if most else np.inf
        chosen = np.flatnonzero(scores >= edge - TIE)
        if accept is not None:
            new = [id_ for id_ in ids[chosen].tolist() if id_ not in answers]
            good = set(accept(new))
            answers.update((id_, id_ in good) for id_ in new)
            chosen = chosen[[answers[id_] for id_ in ids[chosen].tolist()]]
        there = len(set(ids[chosen].tolist()))
        if most == living or there >= limit:
            return chosen
        most = max(2 * most, 5 * limit * most // (4 * max(1, there)))


def first(found: tuple[Ids, Floats], limit: int) -> dict[int, float]:
    """The best row of each record, of the `limit` best records."""
    ids, scores = found
    order = np.lexsort((ids, -scores))
    each, values = ids[order].tolist(), scores[order].tolist()
    if len(set(each)) == len(each):
        return dict(zip(each[:limit], values[:limit], strict=True))
    best: dict[int, float] = {}
    for id_, score in zip(each, values, strict=True):
        if len(best) == limit:
            break
        best.setdefault(id_, score)
    return best


def member(ids: Ids, wanted: Ids) -> NDArray[np.bool_]:
    """Whether each id is a wanted one, by a table of all ids where these are dense numbers."""
    last = int(ids.max(initial=0))
    if last > DENSE * (len(ids) + len(wanted)):
        return np.isin(ids, wanted)
    is_wanted = np.zeros(last + 1, np.bool_)
    is_wanted[wanted[(wanted >= 0) & (wanted <= last)]] = True
    return is_wanted[ids]


def as_json(ids: Ids) -> str:
    return "[" + ",".join(map(str, ids.tolist())) + "]"
