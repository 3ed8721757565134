"""A generation's embeddings in memory, kept true to the database by its change log.

Fetching 100,000 embeddings costs half a second, scoring them 10 ms; so the matrix stays, and before each query the log
tells which records changed since. A log entry carries a random mark: where the mark of the last entry read is not the
one in the database any more (a rolled-back transaction, another file), everything is read anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from ..embeddings.provider import Vector

Ids = NDArray[np.int64]

LAST_ENTRY = text("SELECT seq, mark FROM kdb_embedding_log ORDER BY seq DESC LIMIT 1")
ENTRIES_SINCE = text("SELECT mark, seq, changed FROM kdb_embedding_log WHERE seq >= :seq ORDER BY seq")
ROWS_AT_ONCE = 4096
IDS_AT_ONCE = 30_000
DEAD = -1


@dataclass(frozen=True, slots=True)
class Position:
    """How far the log was read; seq 0 is before its first entry."""

    seq: int
    mark: str | None


class Mirror:
    """Rows are append-only: a changed record's old rows are marked dead and its new ones appended."""

    def __init__(self, table: str, dimensions: int) -> None:
        self._table = table
        self._dimensions = dimensions
        self._lock = Lock()
        self._position: Position | None = None
        self._size = 0
        self._ids: Ids = np.zeros(0, np.int64)
        self._matrix: NDArray[np.float32] = np.zeros((0, dimensions), np.float32)

    def best(
        self, connection: Connection, vector: Vector, limit: int, allowed: Sequence[int] | None
    ) -> dict[int, float]:
        """The `limit` records nearest by cosine, best first; ties by id."""
        with self._lock:
            self._refresh(connection)
            ids, scores = self._scored(vector)
        if allowed is not None:
            keep = np.isin(ids, np.asarray(allowed, np.int64))
            ids, scores = ids[keep], scores[keep]
        if len(scores) > limit:
            edge = np.partition(scores, len(scores) - limit)[len(scores) - limit]
            keep = scores >= edge
            ids, scores = ids[keep], scores[keep]
        order = np.lexsort((ids, -scores))
        best: dict[int, float] = {}
        for place in order:
            best.setdefault(int(ids[place]), float(scores[place]))
        return dict(list(best.items())[:limit])

    def scores(self, connection: Connection, vector: Vector, wanted: Iterable[int]) -> dict[int, float]:
        """The cosine of each wanted record that has an embedding: of its nearest passage."""
        with self._lock:
            self._refresh(connection)
            places = np.flatnonzero(np.isin(self._ids[: self._size], np.fromiter(wanted, np.int64)))
            ids, scores = self._ids[places], self._matrix[places] @ vector
        found: dict[int, float] = {}
        for id_, score in zip(ids.tolist(), scores.tolist(), strict=True):
            found[id_] = max(score, found.get(id_, -1.0))
        return found

    def _scored(self, vector: Vector) -> tuple[Ids, NDArray[np.float32]]:
        ids = self._ids[: self._size]
        alive = ids != DEAD
        return ids[alive], (self._matrix[: self._size] @ vector)[alive]

    def _refresh(self, connection: Connection) -> None:
        last = connection.execute(LAST_ENTRY).one_or_none()
        now = Position(last.seq, last.mark) if last else Position(0, None)
        if now == self._position:
            return
        changed = self._changed_since(connection)
        if changed is None:
            self._clear(connection.scalar(text(f"SELECT count(*) FROM {self._table}")) or 0)
            self._append(
                connection.execute(
                    text(
                        f"SELECT search_id, embedding FROM {self._table} "
                        "WHERE embedding IS NOT NULL ORDER BY search_id, passage"
                    )
                )
            )
        else:
            self._replace(connection, changed)
        self._position = now

    def _changed_since(self, connection: Connection) -> Ids | None:
        """The ids of changed records, or None where the log does not reach back."""
        if self._position is None:
            return None
        entries = connection.execute(ENTRIES_SINCE, {"seq": self._position.seq}).all()
        if self._position.mark is not None:
            if not entries or entries[0].mark != self._position.mark:
                return None
            entries = entries[1:]
        elif entries and entries[0].seq > 1:
            return None
        if any(entry.changed is None for entry in entries):
            return None
        return np.unique(np.frombuffer(b"".join(entry.changed for entry in entries), dtype=np.int64))

    def _replace(self, connection: Connection, changed: Ids) -> None:
        ids = self._ids[: self._size]
        ids[np.isin(ids, changed)] = DEAD
        for start in range(0, len(changed), IDS_AT_ONCE):
            wanted = "[" + ",".join(map(str, changed[start : start + IDS_AT_ONCE].tolist())) + "]"
            self._append(
                connection.execute(
                    text(
                        f"SELECT e.search_id, e.embedding FROM json_each(:wanted) AS w CROSS JOIN {self._table} AS e "
                        "ON e.search_id = w.value WHERE e.embedding IS NOT NULL"
                    ),
                    {"wanted": wanted},
                )
            )
        if np.count_nonzero(self._ids[: self._size] == DEAD) > self._size // 4:
            alive = np.flatnonzero(self._ids[: self._size] != DEAD)
            self._matrix, self._ids, self._size = self._matrix[alive], self._ids[alive], len(alive)

    def _append(self, rows: Any) -> None:
        for part in rows.partitions(ROWS_AT_ONCE):
            end = self._size + len(part)
            self._reserve(end)
            self._ids[self._size : end] = [row[0] for row in part]
            blob = b"".join(row[1] for row in part)
            self._matrix[self._size : end] = np.frombuffer(blob, "<f4").reshape(len(part), self._dimensions)
            self._size = end

    def _reserve(self, rows: int) -> None:
        if rows > len(self._ids):
            more = max(rows, len(self._ids) + len(self._ids) // 2) - len(self._ids)
            self._ids = np.concatenate([self._ids, np.full(more, DEAD, np.int64)])
            self._matrix = np.concatenate([self._matrix, np.zeros((more, self._dimensions), np.float32)])

    def _clear(self, rows: int) -> None:
        self._size = 0
        self._ids = np.full(rows, DEAD, np.int64)
        self._matrix = np.zeros((rows, self._dimensions), np.float32)
