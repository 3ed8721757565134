"""Makes a `Query` of the arguments for entities and mapped classes alike, for `search` to answer. Imports `values`,
`errors`, `content`, `stores`, `indexing` and `search`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, Unpack

from sqlalchemy import ColumnElement, Connection, Select, select

from ..content import check_entity, check_id
from ..errors import InvalidInput, RecordMissing, seen
from ..indexing.index import Index
from ..search.answering import Answering
from ..search.query import Query, SearchOptions, check_text, check_whole, make_query
from ..search.syntax import may_name_field
from ..stores.values import Among
from ..values import Ref, SearchResults
from .callers import sessions_of

if TYPE_CHECKING:
    from ..search.retrieval import Legs
    from .columns import ClassFields
    from .mapping import Mapped

SIMILAR_CHARACTERS = 10_000
"""Bounds how much of a record's content is the query of `similar`. Chosen, not measured."""

T = TypeVar("T")


class Queries:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._answering = index.part(Answering)

    def search(
        self,
        query: str,
        entity: object,
        entities: Iterable[object] | None,
        connection: Connection | None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        return self._answering.search(self._query(query, entity, entities, connection, **options), connection)

    def similar(
        self,
        entity: object,
        id: str | int,
        entities: Iterable[object] | None,
        connection: Connection | None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        (name,) = self.names([entity])
        ref = Ref(check_entity(name), check_id(id))
        with self._index.reading(connection, (ref.tenant,)) as conn:
            found = self._index.store.contents.entries(conn, [ref])
        if not found:
            raise RecordMissing(f"{name} {ref.id!r:.80} is not in the index, so nothing can be similar to it")
        content = found[0].content[:SIMILAR_CHARACTERS]
        among = [entity] if entities is None else entities
        return self._answering.search(self._query(content, None, among, connection, like=ref, **options), connection)

    def suggest(self, text: str, limit: int, connection: Connection | None) -> list[str]:
        check_whole("limit", limit, 1)
        text = check_text(text)
        with self._index.preserving(connection, ("",)) as conn:
            self._index.store.connections.prepare_search(conn)
            return self._index.keywords.suggest(conn, ("",), (), text, limit)

    def select(
        self, cls: type[T], query: str, connection: Connection | None, **options: Unpack[SearchOptions]
    ) -> Select[tuple[T]]:
        mapped = sessions_of(self._index).mappings.searchable(cls)
        hits = self.search(query, cls, None, connection, **options)
        return mapped.ranked(select(cls), cls, [hit.id for hit in hits], self._index.store.keys.rows)

    def legs(self, query: str, entities: Iterable[object] | None, limit: int) -> "Legs":
        return self._answering.legs(self._query(query, None, entities or None, None, limit=limit))

    def names(self, entities: Iterable[object]) -> tuple[str, ...]:
        """The names of entities that are given by name or mapped class."""
        return tuple(
            name if isinstance(name, str) else sessions_of(self._index).mappings.searchable(name).entity  # type: ignore[arg-type]
            for name in entities
        )

    def _query(
        self,
        query: str,
        entity: object,
        entities: Iterable[object] | None,
        connection: Connection | None,
        like: Ref | None = None,
        **options: Unpack[SearchOptions],
    ) -> Query:
        if isinstance(entities, str):
            raise InvalidInput(f"entities is a list of names; for one, use entity={seen(entities)}")
        names: list[object] = [*([] if entity is None else [entity]), *(entities or ())]
        text, where = check_text(query), options.get("where")
        fields = () if like else self._fields(text, names, connection)
        among = columns = None
        if any(isinstance(name, type) for name in names) or not (where is None or isinstance(where, Mapping)):
            from .scope import scope, with_field_words

            columns = self._columns(names)
            where = with_field_words(text, names, where, fields)
            names, among = scope(sessions_of(self._index).mappings, names, where)
        options["where"] = where if among is None else None
        return make_query(
            text,
            fields=fields,
            entities=names if names or entities is None else None,
            among=None if among is None else self._among(*among),
            columns=columns,
            like=like,
            **options,
        )

    def _fields(self, query: str, names: Sequence[object], connection: Connection | None) -> Collection[str]:
        """The fields that a query may name: of a mapped class that is searched alone, or of the record store's
        entities. They are read before the query is embedded."""
        if not may_name_field(query):
            return ()
        if any(isinstance(name, type) for name in names):
            columns = self._columns(names)
            return columns.names if columns else ()
        with self._index.preserving(connection) as conn:
            declared = self._index.catalog.entities(conn)
        searched = [entity for name, entity in declared.items() if not names or name in names]
        return {name for entity in searched for name in entity.field_names}

    def _columns(self, names: Sequence[object]) -> "ClassFields | None":
        """The columns of the mapped class that is searched, where it is one alone."""
        from .columns import ClassFields

        cls = names[0] if len(names) == 1 else None
        mapped = sessions_of(self._index).mappings.of(cls) if isinstance(cls, type) else None
        return ClassFields(mapped, cls, self._index.store.keys.id_text) if mapped else None  # type: ignore[arg-type]

    def _among(self, mapped: "Mapped", cls: type, where: ColumnElement[bool]) -> Among:
        from .criteria import compiled

        wanted = select(self._index.store.keys.id_text(mapped.id_columns(cls))).select_from(cls).where(where)
        return compiled(mapped.without_concrete(wanted, cls), self._index.engine)
