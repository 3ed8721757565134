"""What goes into a store and comes out of it: entries, embeddings, scopes, terms, candidates. Imports `values` and
`content`."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import BindParameter, ColumnElement, FromClause, TextClause

from ..content import FULL, Extent, layout_of_text
from ..values import Ref, Tenants
from .filters import Filter

Key = int
"""The number of a record's present content, `doc`: a changed content gets a new one, and none is used again."""

TRIED = "~"
"""Precedes the content hash of a text that the server failed on: no record has that hash, so the text is pending. Its
`attempts` are counted."""
UNDECIDED = ("server_error", "unavailable")
ATTEMPTS = 3
"""Attempts after which a text that the server fails on is refused. A text is never refused while the server is
unavailable. Chosen, not measured."""
Spans = tuple[tuple[int, int], ...]


class Part(NamedTuple):
    """Records of an index: of these entities, of all where none is named, and of these tenants, None for all."""

    entities: tuple[str, ...] = ()
    tenants: Tenants = None

    @property
    def is_whole(self) -> bool:
        return not self.entities and self.tenants is None


WHOLE: Final = Part()


class Entry(NamedTuple):
    """A record's content to index; `emphasis`, `gaps` and `extent` as `content.Content` has them."""

    ref: Ref
    content: str
    content_hash: str
    emphasis: str = ""
    gaps: tuple[int, ...] = ()
    extent: Extent = FULL

    @property
    def is_readable(self) -> bool:
        return bool(self.content) or not self.content_hash or not self.has_vector

    @property
    def has_vector(self) -> bool:
        """Whether a part of the content is to be embedded."""
        return self.extent.vectors_to != 0

    @property
    def keyword_text(self) -> tuple[str, tuple[int, ...]]:
        """The part of the content that keywords are of, and its gaps."""
        begin = self.extent.keywords_from
        return self.content[begin:], tuple(gap - begin for gap in self.gaps if gap > begin)

    @property
    def embedded(self) -> "Entry":
        """The entry with that part of its content alone which is embedded."""
        end = self.extent.vectors_to
        return self if end is None else self._replace(content=self.content[:end])


def stored_entry(ref: Ref, content: str, content_hash: str, layout: str) -> Entry:
    """Makes the entry of a row of the index, without what counts again."""
    gaps, extent = layout_of_text(layout)
    return Entry(ref, content, content_hash, "", gaps, extent)


def embedded_text(content: str, layout: str) -> str:
    """Returns the part of a stored content that is embedded."""
    return content[: layout_of_text(layout)[1].vectors_to] if "v" in layout else content


class Embedding(NamedTuple):
    """An embedding to write, or a tombstone: `vector` is float32 little-endian bytes, or None with a `reason`; without
    either the content has nothing to embed. A passage of a long text goes from `start_at` to `end_at`; the first also
    holds the reason for which another was refused. All passages of a record are written together."""

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
    tenant: str = ""


class State(NamedTuple):
    """What the index holds of a record: the hash of its content, and of the content its embedding was made from."""

    content_hash: str
    embedded_hash: str | None


class Stored(NamedTuple):
    """A record as it is stored: the number of its content, the content without what counts again, and the record
    store's data."""

    doc: int
    entry: Entry
    data: Mapping[str, Any] | None


class Written(NamedTuple):
    """The number of a content that was stored, and of the one that it replaced."""

    doc: int
    replaced: int | None


class Hit(NamedTuple):
    """`data` is the record store's, None for a record that it does not hold. `passages` are the start and end of each
    passage, the one nearest to the query's vector first, none for a text of one passage, and `cosines` those of their
    vectors with it. What comes after the first `embedded` characters is for keywords alone; None where nothing does.
    `keywords_from` is where what keywords are of begins."""

    ref: Ref
    content: str
    data: Mapping[str, Any] | None
    passages: tuple[tuple[int, int], ...] = ()
    embedded: int | None = None
    cosines: tuple[float, ...] = ()
    keywords_from: int = 0

    @property
    def text(self) -> str:
        if self.passages:
            return self.content[slice(*self.passages[0])]
        return self.content if self.embedded is None else self.content[: self.embedded].rstrip()

    @property
    def parts(self) -> list[tuple[int, int]]:
        """Where what may be shown of it is: each passage, and what is for keywords alone, after the rest of a short
        text."""
        places = [*self.passages] or [(0, len(self.text))]
        if self.embedded is None:
            return places
        return [*places, (self.embedded if self.passages else 0, len(self.content))]


def make_hit(
    ref: Ref, content: str, layout: str, data: Mapping[str, Any] | None, passages: Sequence[Sequence[float]]
) -> Hit:
    """Each passage by its start, its end and its cosine."""
    extent = layout_of_text(layout)[1] if "v" in layout or "k" in layout else FULL
    places = tuple((int(start), int(end)) for start, end, _ in passages)
    cosines = tuple(cosine for *_, cosine in passages)
    return Hit(ref, content, data, places, extent.vectors_to or None, cosines, extent.keywords_from)


class Fault(NamedTuple):
    """A defect of the database itself: `check`, `severity` and `cure` are those of a finding of the doctor, `name` is
    the name of the index concerned."""

    check: str
    severity: Literal["error", "warning", "note"]
    message: str
    cure: str
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Among:
    """A subquery of one column, record ids as text; `binds` are typed, by their names in `sql`. `by_ids`, if it is
    there, makes the same subquery for these ids alone, which looks up their rows and no others."""

    sql: str
    binds: Mapping[str, BindParameter[Any]]
    by_ids: "Callable[[Sequence[str]], Among] | None" = None

    def for_ids(self, ids: Sequence[str]) -> "Among":
        return self if self.by_ids is None else self.by_ids(ids)


def bound(statement: TextClause, binds: Mapping[str, Any]) -> tuple[TextClause, dict[str, Any]]:
    """Returns the statement with its typed binds, and the values of the others."""
    typed = [value for value in binds.values() if isinstance(value, BindParameter)]
    plain = {name: value for name, value in binds.items() if not isinstance(value, BindParameter)}
    return statement.bindparams(*typed) if typed else statement, plain


class KeyRows(NamedTuple):
    """A table of primary keys: its columns in their order, and the place of each row."""

    table: FromClause
    columns: Sequence[ColumnElement[Any]]
    place: ColumnElement[int]


@dataclass(frozen=True, slots=True)
class Scope:
    """The records that may be hits: `entities` empty means all. `filter` is on records of the record store, `among` on
    those of a mapped class; `visible` are the records of some entities that their own conditions or row security leave,
    by entity; the filter is not for those of the `unfiltered`. Those of `without` are left out. Where there are `ids`,
    these alone. The index `is_undivided` while no entity in it has tenants."""

    entities: tuple[str, ...] = ()
    filter: Filter | None = None
    among: Among | None = None
    without: tuple[Ref, ...] = ()
    tenants: Tenants = ("",)
    is_undivided: bool = False
    visible: Sequence[tuple[str, Among]] = ()
    ids: tuple[str, ...] | None = None
    unfiltered: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether these are all records of the entities and tenants."""
        is_narrowed = self.filter is not None or self.among is not None or self.ids is not None
        return not is_narrowed and not self.without and not self.visible

    @property
    def unnarrowed(self) -> "Scope":
        """All records of the entities and tenants."""
        return replace(self, filter=None, among=None, without=(), visible=(), ids=None)

    @property
    def is_mixed(self) -> bool:
        """Whether neither the filter by itself nor `among` names its records."""
        return self.ids is not None or bool(self.unfiltered)

    @property
    def has_one_tenant(self) -> bool:
        return self.tenants is not None and len(self.tenants) == 1

    @property
    def is_by_ids(self) -> bool:
        """Whether rows are looked up by their ids, where these are given."""
        amongs = [among for among in (self.among, *(among for _, among in self.visible)) if among is not None]
        return any(among.by_ids is not None for among in amongs)

    def for_ids(self, ids: Mapping[str, Sequence[str]]) -> "Scope":
        """The scope, for records of these ids alone, by entity."""
        every = [id_ for of_entity in ids.values() for id_ in of_entity]
        visible = [(entity, among.for_ids(ids.get(entity, ()))) for entity, among in self.visible]
        return replace(self, among=self.among and self.among.for_ids(every), visible=visible)


def after_record(scope: Scope, after: Ref | None, table: str, binds: dict[str, Any]) -> tuple[str, str]:
    """Renders the columns by which records are listed, in the order of refs, and the condition that they come after a
    record, which all do where none is given. A column that has one value in the scope is left out: the index has the
    others in this order."""
    varies = {"entity_name": len(scope.entities) != 1, "record_id": True, "tenant": not scope.has_one_tenant}
    names = [name for name, has_several in varies.items() if has_several]
    columns = ", ".join(f"{table}.{name}" for name in names)
    if after is None:
        return columns, "true"
    binds |= {f"after_{name}": value for name, value in zip(varies, after, strict=True)}
    return columns, f"({columns}) > ({', '.join(f':after_{name}' for name in names)})"


@dataclass(frozen=True, slots=True)
class ValueAt:
    """The number or text that a path into a record leads to."""

    path: tuple[str, ...]


Probe = ValueAt | Filter
"""What is read of a record; of a filter whether it holds."""


class Probed(NamedTuple):
    """Records, which of them the record store has, and a column of values for each probe, None for those it lacks."""

    docs: Sequence[Key]
    refs: Sequence[Ref]
    are_stored: Sequence[Any]
    columns: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """A subquery of (tenant, entity_name, record_id), the records that match; `binds` as in `bound`."""

    sql: str
    binds: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Candidates:
    """A leg's raw scores, best first, and in `others` its scores of the other leg's candidates that have one.

    `most` is an upper bound of a record's score, None where there is none; `full` is the BM25 of a record of average
    length that has each word of the query, also those that no record has. `is_exact` is False where a better record
    might have been missed. `scanned` is the number of records that were read, 0 where it was not counted.
    """

    scores: Mapping[Key, float]
    others: Mapping[Key, float] = field(default_factory=dict)
    is_exact: bool = True
    most: float | None = None
    full: float = 0.0
    how: str = ""
    scanned: int = 0


def united(parts: Sequence[Candidates]) -> Candidates:
    """Unites one leg's candidates of several scopes that have no record in common."""
    return replace(
        max(parts, key=lambda part: len(part.scores)),
        scores={key: score for part in parts for key, score in part.scores.items()},
        others={key: score for part in parts for key, score in part.others.items()},
        is_exact=all(part.is_exact for part in parts),
        scanned=sum(part.scanned for part in parts),
    )


def nearest_of(parts: Sequence[Candidates], limit: int) -> Candidates:
    """The `limit` best of one leg's candidates of several scopes that have no record in common."""
    whole = united(parts)
    best = sorted(whole.scores, key=lambda key: (-whole.scores[key], key))[:limit]
    return replace(whole, scores={key: whole.scores[key] for key in best})


def numbers(vector: bytes) -> tuple[float, ...]:
    """The numbers of an embedding as it is stored, float32."""
    return tuple(array("f", vector))
