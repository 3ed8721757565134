"""Makes a `Query` of the arguments for entities and mapped classes alike, for `search` to answer. Imports `values`,
`errors`, `telemetry`, `boosts`, `content`, `stores`, `indexing` and `search`."""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from sqlalchemy import Connection, Select, select

from ..content import check_entity, check_id, check_tenants
from ..errors import InvalidInput, RecordMissing, TenantRequired
from ..indexing.index import Index
from ..indexing.rules import MAX_HIDES, MAX_PINS
from ..search.answering import Answering
from ..search.boost_sets import ClassBoosts
from ..search.checks import check_text, check_whole
from ..search.describing import describe_query, describe_results, retrieval
from ..search.given_refs import RefReader
from ..search.options import SearchOptions, TenantOption
from ..search.query import Query, make_query
from ..search.sources import Sources
from ..search.syntax import may_name_field, parse
from ..stores.values import Among
from ..telemetry import Operation, operation
from ..telemetry.measures import SUGGESTION
from ..values import Ref, SearchResults, Tenants
from .arguments import checked_boosts, listed
from .callers import sessions_of
from .table_entities import problems_of_tables, table_entities

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ..search.retrieval import Legs
    from .columns import ClassFields
    from .mapping import Mapped
    from .objects import Loading
    from .partial import PartialSources
    from .scope import Searched

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
        session: "Session | None" = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        with retrieval(self._index.engine) as observed:
            searched = self._searched(entity, entities, connection)
            shown = self._shown(searched or (), connection, session, options)
            parsed = self._query(query, searched, connection, **options)
            return shown(self._answered(observed, parsed, connection))

    def similar(
        self,
        entity: object,
        id: str | int,
        entities: Iterable[object] | None,
        connection: Connection | None,
        session: "Session | None" = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        with retrieval(self._index.engine) as observed:
            (entity,) = self._searched([entity], None, connection) or (entity,)
            among = listed(entity, None) if entities is None else self._searched(None, entities, connection)
            shown = self._shown(among or (), connection, session, options)
            tenants, _ = self.tenants([entity], options, connection)
            if tenants is None or len(tenants) != 1:
                raise InvalidInput("similar takes the record's own tenant alone: tenant='…'")
            (name,) = self.names([entity])
            ref = Ref(check_entity(name), check_id(id), tenants[0])
            options.setdefault("boost", ())
            content = self._content(ref, connection)[:SIMILAR_CHARACTERS]
            query = self._query(content, among, connection, like=ref, **options)
            return shown(self._answered(observed, query, connection))

    def _answered(self, observed: Operation, query: Query, connection: Connection | None) -> SearchResults:
        if observed.is_observed:
            describe_query(observed, query)
        found = self._answering.search(query, connection)
        if observed.is_observed:
            describe_results(observed, found)
        return found

    def _shown(
        self,
        searched: Sequence[object],
        connection: Connection | None,
        session: "Session | None",
        options: SearchOptions,
    ) -> Callable[[SearchResults], SearchResults]:
        """What gives the hits their objects and the values of their rows, as far as these are wanted. Raises
        InvalidInput."""
        loading, has_data = self._loading(searched, session, options), options.pop("data", False)

        def shown(found: SearchResults) -> SearchResults:
            found = found if loading is None else loading.load(found)
            if not has_data or all(hit.data is not None for hit in found):
                return found
            from .described import RowData

            reading = partial(self._index.preserving, connection)
            return RowData(sessions_of(self._index).mappings, reading).fill(found)

        return shown

    def _loading(
        self, searched: Sequence[object], session: "Session | None", options: SearchOptions
    ) -> "Loading | None":
        """What is to be loaded for the hits, which is no option of the query itself. Raises InvalidInput."""
        load = options.pop("load", None)
        if load is None or load is False:
            return None
        from .objects import Loading

        return Loading(sessions_of(self._index).mappings, self._index.store.keys.rows, session, searched, load)

    def _content(self, ref: Ref, connection: Connection | None) -> str:
        """What the index holds of a record. Raises RecordMissing, for one that the connection may not read, too."""
        secured = self._secured([ref.entity], connection)
        with self._index.reading(connection, (ref.tenant,)) as conn:
            found = self._index.store.contents.entries(conn, [ref])
            if secured and found:
                from .secured import Secured

                found = found if self._index.part(Secured).may_read(conn, secured[0], ref) else []
        if not found:
            raise RecordMissing(f"{ref.entity} {ref.id!r:.80} is not in the index, so nothing can be similar to it")
        return found[0].content

    def suggest(
        self,
        text: str,
        entity: object,
        entities: Iterable[object] | None,
        connection: Connection | None,
        limit: int,
        **options: Unpack[TenantOption],
    ) -> list[str]:
        check_whole("limit", limit, 1)
        if unknown := sorted(options.keys() - {"tenant"}):
            raise TypeError(f"suggest() got an unexpected keyword argument {unknown[0]!r}")
        text = check_text(text)
        given = self._searched(entity, entities, connection)
        tenants, _ = self.tenants(given or (), options, connection)
        names = [check_entity(name) for name in self.names(given or ())]
        if tenants == () or given == [] or hides_words(self._secured(names, connection), tenants):
            return []
        with operation(SUGGESTION), self._index.preserving(connection, tenants) as conn:
            self._index.store.connections.prepare_search(conn)
            return self._index.keywords.suggest(conn, tenants, names, text, limit)

    def select(
        self, cls: type[T], query: str, connection: Connection | None, **options: Unpack[SearchOptions]
    ) -> Select[tuple[T]]:
        mapped = sessions_of(self._index).mappings.searchable(cls)
        for option in ("load", "data", "passages", "snippet_length", "vectors"):
            if options.get(option):
                raise InvalidInput(
                    f"select makes a statement, which has no hits: leave {option}= out, or search(..., {option}=). "
                    "Loader options go on the statement: .options(...)"
                )
        hits = self.search(query, cls, None, connection, **options)
        return mapped.ranked(select(cls), cls, [hit.id for hit in hits], self._index.store.keys.rows)

    def legs(
        self, query: str, entities: Iterable[object] | None, limit: int, **options: Unpack[TenantOption]
    ) -> "Legs":
        searched = self._searched(None, entities or None, None)
        return self._answering.legs(self._query(query, searched, None, limit=limit, **options))

    def names(self, entities: Iterable[object]) -> tuple[str, ...]:
        """The names of entities that are given by name or mapped class."""
        return tuple(
            name if isinstance(name, str) else sessions_of(self._index).mappings.searchable(name).entity  # type: ignore[arg-type]
            for name in entities
        )

    def _searched(
        self, entity: object, entities: Iterable[object] | None, connection: Connection | None
    ) -> list[object] | None:
        """What a call names, table entities by their classes; None where it names nothing."""
        tables = table_entities(self._index, connection)
        if entity is None and entities is None:
            return None
        return [tables.get(one, one) if isinstance(one, str) else one for one in listed(entity, entities)]

    def _query(
        self,
        query: str,
        searched: list[object] | None,
        connection: Connection | None,
        like: Ref | None = None,
        **options: Unpack[SearchOptions],
    ) -> Query:
        text, names, where = check_text(query), searched or [], options.get("where")
        is_nowhere = searched == []
        self._check_tables(names, options)
        tenants, is_undivided = self.tenants(names, options, connection)
        tables = self._partial(searched, where, connection)
        fields = () if like else self._fields(text, names, tables, connection)
        given, (columns, names, classes) = names, self._classes(text, fields, names, where, tables)
        of_classes = tuple(name for each in classes for name in each.entities)
        options["where"] = where if not names or set(names) - set(of_classes) else None
        secured = [] if is_nowhere else self._secured([str(name) for name in names], connection)
        among, visible = self._narrowed(names, classes, secured)
        self._read(options, given, names)
        return make_query(
            text,
            fields=fields,
            entities=None if is_nowhere else names,
            of_classes=of_classes,
            tenants=tenants,
            is_undivided=is_undivided,
            among=among,
            visible=visible,
            hides_words=hides_words(secured, tenants),
            columns=columns,
            shared=frozenset(tables.names if tables else ()),
            like=like,
            class_boosts=self._class_boosts(names, given, connection) if options.get("boost") is None else (),
            **options,
        )

    def _check_tables(self, names: Sequence[object], options: SearchOptions) -> None:
        """Raises InvalidInput where columns of a table are named that was changed since it was added."""
        if any(options.get(name) is not None for name in ("where", "facets", "sort", "limit_by")):
            problems = problems_of_tables(self._index)
            if problem := next((problems[name] for name in names if isinstance(name, str) and name in problems), None):
                raise InvalidInput(problem)

    def _partial(
        self, searched: list[object] | None, where: object, connection: Connection | None
    ) -> "PartialSources | None":
        """The columns of the table entities, where all is searched and there are some."""
        tables = () if searched is not None else table_entities(self._index, connection).values()
        if not tables or not (where is None or isinstance(where, Mapping)):
            return None
        from .partial import PartialSources

        return PartialSources(self._class_fields(tables))

    def _classes(
        self,
        text: str,
        fields: Collection[str],
        names: list[object],
        where: Any,
        tables: "PartialSources | None",
    ) -> "tuple[ClassFields | Sources | None, list[object], Sequence[Searched]]":
        """Of what is searched: the columns of mapped classes, the names of entities, and the classes with their
        conditions."""
        is_mapping = where is None or isinstance(where, Mapping)
        if tables is None and is_mapping and not any(isinstance(name, type) for name in names):
            return None, names, ()
        from .scope import partial_scope, scope

        words = parse(text, fields).fields if fields else ()
        if tables is not None:
            return tables, names, partial_scope(sessions_of(self._index).mappings, tables.classes, where, words)
        return self._columns(names), *scope(sessions_of(self._index).mappings, names, where, words)

    def _read(self, options: SearchOptions, given: Sequence[object], names: Sequence[object]) -> None:
        """Replaces boosts, and what is to be pinned and hidden, by what a Query has. The tenants are read already."""
        options.pop("tenant", None)
        if options.get("boost") is not None:
            options["boost"] = checked_boosts(options["boost"], given)
        refs = RefReader(lambda one: self.names([one])[0], [str(name) for name in names])
        options["pin"] = refs.read("pin", options.get("pin"), MAX_PINS)
        options["hide"] = refs.read("hide", options.get("hide"), MAX_HIDES)

    def _class_boosts(
        self, names: Sequence[object], given: Sequence[object], connection: Connection | None
    ) -> tuple[ClassBoosts, ...]:
        """Those of the mapped classes of these entities, of all where none is named."""
        if "kameleon.orm.declaration" not in sys.modules:
            return ()
        from .boosting import BoostedClasses

        return self._index.part(BoostedClasses).of(names, given, connection)

    def tenants(
        self, names: Sequence[object], options: TenantOption, connection: Connection | None
    ) -> tuple[Tenants, bool]:
        """Whose records are read, and whether none in the index is known to have a tenant. Raises TenantRequired where
        none is given and what is searched has tenants."""
        if "tenant" in options:
            return check_tenants(options["tenant"]), False
        known = self._index.tenanted(connection)
        for name in names:
            mapped = sessions_of(self._index).mappings.of(name) if isinstance(name, type) else None
            entity = mapped.entity if mapped else name
            if entity in known or (mapped is not None and mapped.has_tenants):
                raise TenantRequired(str(entity))
        if known and not names:
            raise TenantRequired(*sorted(known))
        return ("",), not known

    def _secured(self, names: Sequence[str], connection: Connection | None) -> "Sequence[Mapped]":
        """The mapped classes of these entities whose tables have row security. None where no class is imported."""
        if "kameleon.orm.declaration" not in sys.modules:
            return ()
        from .secured import Secured

        return self._index.part(Secured).classes(names, connection)

    def _narrowed(
        self, names: Sequence[object], classes: "Sequence[Searched]", secured: "Sequence[Mapped]"
    ) -> tuple[Among | None, tuple[tuple[str, Among], ...]]:
        """The rows that conditions and row security leave: of one class that is searched alone, else by entity."""
        narrowed = [each for each in classes if each.condition is not None]
        if len(narrowed) == len(classes) == 1 and len(names) == len(narrowed[0].entities):
            return self._among(narrowed[0], is_secured=bool(secured)), ()
        made = [
            (each.entities, self._among(each, f"class{place}_", is_secured=bool(secured)))
            for place, each in enumerate(narrowed)
        ]
        visible = [(name, among) for entities, among in made for name in entities]
        visible += self._visible([each for each in secured if each.entity not in dict(visible)])
        return (visible[0][1], ()) if len(visible) == len(names) == 1 else (None, tuple(visible))

    def _visible(self, secured: "Sequence[Mapped]") -> tuple[tuple[str, Among], ...]:
        if not secured:
            return ()
        from .secured import Secured

        rows = self._index.part(Secured).rows
        return tuple((mapped.entity, rows(mapped, f"visible{place}_")) for place, mapped in enumerate(secured))

    def _fields(
        self,
        query: str,
        names: Sequence[object],
        tables: "PartialSources | None",
        connection: Connection | None,
    ) -> Collection[str]:
        """The fields that a query may name: of a mapped class that is searched alone, or of the record store's
        entities, and of table entities where all is searched. They are read before the query is embedded."""
        if not may_name_field(query):
            return ()
        if any(isinstance(name, type) for name in names):
            columns = self._columns(names)
            return columns.names if columns and all(isinstance(name, type) for name in names) else ()
        with self._index.preserving(connection) as conn:
            declared = self._index.catalog.entities(conn)
        searched = [entity for name, entity in declared.items() if not names or name in names]
        return {name for entity in searched for name in entity.field_names} | {*(tables.columns if tables else ())}

    def _columns(self, names: Sequence[object]) -> "ClassFields | Sources | None":
        """The columns of the mapped classes that are searched."""
        fields = list(self._class_fields(name for name in names if isinstance(name, type)).values())
        return Sources(fields) if len(fields) > 1 else next(iter(fields), None)

    def _class_fields(self, classes: Iterable[type]) -> "dict[type, ClassFields]":
        from .columns import ClassFields

        mappings, keys = sessions_of(self._index).mappings, self._index.store.keys
        return {
            cls: ClassFields(mapped, cls, mappings.entities(mapped), keys)
            for cls in classes
            if (mapped := mappings.of(cls)) is not None
        }

    def _among(self, searched: "Searched", prefix: str = "among", *, is_secured: bool) -> Among:
        from .criteria import compiled

        mapped, cls = searched.mapped, searched.cls
        ids = select(self._index.store.keys.id_text(mapped.id_columns(cls))).select_from(cls)
        wanted = ids if searched.condition is None else ids.where(searched.condition)
        if is_secured:
            from .secured import Secured

            return self._index.part(Secured).among(mapped, wanted, cls, prefix)
        return compiled(mapped.without_concrete(wanted, cls), self._index.engine, prefix)


def hides_words(secured: "Sequence[Mapped]", tenants: Tenants) -> bool:
    """Whether words of the index are not to be shown: those of rows that the connection may not read are among them.
    Where a class has tenants, words are those of the tenants that are searched."""
    return any(tenants is None or not mapped.has_tenants for mapped in secured)
