"""What goes into a store and comes out of it: entries, embeddings, scopes, terms, candidates. Imports `values`."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import BindParameter, ColumnElement, Dialect, FromClause, TextClause, table
from sqlalchemy import column as column_of

from ..values import Ref
from .filters import Filter

Key = Hashable

TRIED = "~"
"""Precedes the content hash of a text that the server failed on: no record has that hash, so the text is pending. Its
`attempts` are counted."""
UNDECIDED = ("server_error", "unavailable")
ATTEMPTS = 3
"""Attempts after which a text that the server fails on is refused. A text is never refused while the server is
unavailable. Chosen, not measured."""
Spans = tuple[tuple[int, int], ...]
IdText = Callable[[Sequence[tuple[Any, str]]], ColumnElement[str]]
KeyOf = Mapping[tuple[str, str], Key]
"""Keys of records by entity and id, as `upsert` returns them."""


class Entry(NamedTuple):
    """A record's content to index; keywords count the words of `emphasis` once more."""

    ref: Ref
    content: str
    content_hash: str
    emphasis: str = ""

    @property
    def is_readable(self) -> bool:
        return bool(self.content) or not self.content_hash


class Embedding(NamedTuple):
    """An embedding to write, or a tombstone: `vector` is float32 little-endian bytes, or None with a `reason`.
    A passage of a long text goes from `start_at` to `end_at`; the first also holds the reason for which another was
    refused. All passages of a record are written together."""

    ref: Ref
    content_hash: str
    vector: bytes | None
    reason: str | None = None
    message: str | None = None
    passage: int = 0
    start_at: int | None = None
    end_at: int | None = None

    @property
    def is_undecided(self) -> bool:
        return self.reason in UNDECIDED

    @property
    def stored_hash(self) -> str:
        return f"{TRIED}{self.content_hash}" if self.is_undecided else self.content_hash


class IndexProgress(NamedTuple):
    """The state of a build of the approximate index: `phase` as the database reports it, empty where it reports none,
    `done` of a `total` in that phase, and the server process that the build waits for."""

    phase: str
    done: int
    total: int
    waits_for: int | None


Progress = Callable[[IndexProgress], None]


class Cached(NamedTuple):
    key: str
    vector: bytes
    used_at: datetime


class State(NamedTuple):
    """What the index holds of a record: the hash of its content, and of the content its embedding was made from."""

    content_hash: str
    embedded_hash: str | None


class Hit(NamedTuple):
    """`data` is the record store's, None for a record that it does not hold. `passage` is the start and end of the
    passage nearest to the query's vector, None for a text of one passage."""

    content: str
    data: Mapping[str, Any] | None
    passage: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        return self.content if self.passage is None else self.content[slice(*self.passage)]


class Fault(NamedTuple):
    """A defect of the database itself: `check`, `severity` and `cure` are those of a finding of the doctor, `name` is
    the name of the index concerned."""

    check: str
    severity: Literal["error", "warning", "note"]
    message: str
    cure: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """A word of the query (`surface`) and its form in the index (`stem`); `rows` is the number of records that have it,
    `times` how often the query has it."""

    surface: str
    stem: str
    rows: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Among:
    """A subquery of one column, record ids as text; `binds` are typed, by their names in `sql`."""

    sql: str
    binds: Mapping[str, BindParameter[Any]]


def bound(statement: TextClause, binds: Mapping[str, Any]) -> tuple[TextClause, dict[str, Any]]:
    """Returns the statement with its typed binds, and the values of the others."""
    typed = [value for value in binds.values() if isinstance(value, BindParameter)]
    plain = {name: value for name, value in binds.items() if not isinstance(value, BindParameter)}
    return statement.bindparams(*typed) if typed else statement, plain


def row_id(id_text: IdText, dialect: Dialect, key: Sequence[tuple[Any, str]], row: str) -> str:
    """Renders the id of a trigger's row OLD or NEW as SQL."""
    there = table(row.lower(), *(column_of(column.name, column.type) for column, _ in key))
    parts = [(part, kind) for part, (_, kind) in zip(there.c, key, strict=True)]
    return str(id_text(parts).compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


class KeyRows(NamedTuple):
    """A table of primary keys: its columns in their order, and the place of each row."""

    table: FromClause
    columns: Sequence[ColumnElement[Any]]
    place: ColumnElement[int]


@dataclass(frozen=True, slots=True)
class Scope:
    """The records that may be hits: `entities` empty means all. `filter` is on records of the record store, `among` on
    those of mapped classes. Their contents have each of `phrases` and none of `excluded`; `without` is left out."""

    entities: tuple[str, ...] = ()
    filter: Filter | None = None
    among: Among | None = None
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    without: Ref | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """A subquery of (entity_name, record_id), the records that match; `binds` as in `bound`."""

    sql: str
    binds: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Candidates:
    """A leg's raw scores, best first, and in `others` its scores of the other leg's candidates that have one.

    `most` is an upper bound of a record's score, None where there is none; `totals` is the store's own: the state of
    the index that scores were computed with. `is_exact` is False where a better record might have been missed.
    `unknown` are words of the query that are in no record. `scanned` is the number of records that were read, 0 where
    it was not counted.
    """

    scores: Mapping[Key, float]
    others: Mapping[Key, float] = field(default_factory=dict)
    is_exact: bool = True
    terms: tuple[Term, ...] = ()
    chosen_by: tuple[Term, ...] = ()
    most: float | None = None
    totals: Any = None
    how: str = ""
    scanned: int = 0
    unknown: tuple[str, ...] = ()


def united(parts: Sequence[Candidates]) -> Candidates:
    """Unites one leg's candidates of several scopes that have no record in common."""
    if len(parts) == 1:
        return parts[0]
    chosen_by = {term.stem: term for part in parts for term in part.chosen_by}
    return replace(
        max(parts, key=lambda part: len(part.terms)),
        scores={key: score for part in parts for key, score in part.scores.items()},
        others={key: score for part in parts for key, score in part.others.items()},
        is_exact=all(part.is_exact for part in parts),
        chosen_by=tuple(chosen_by.values()),
        scanned=sum(part.scanned for part in parts),
    )
