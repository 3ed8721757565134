"""Makes the scope of a search: which records its legs look at. Imports `boosts`, `errors` and
`stores`."""

from collections.abc import Mapping, Sequence

from ..boosts import Boost
from ..errors import UnknownEntity
from ..stores.catalog import Entity
from ..stores.filters import HAS_WORDS, Comparison, Filter, Group, parse_filter
from ..stores.paths import FieldNames, path_of
from ..stores.values import Scope
from .boost_sets import probe_of
from .field_words import indexed
from .query import Query
from .sources import names_of


def make_scope(query: Query, entities: Mapping[str, Entity]) -> Scope:
    """`entities` are those of the record store. Raises InvalidFilter, UnknownEntity."""
    return Scope(
        query.entities,
        _filter(query, entities),
        query.among,
        tenants=query.tenants,
        is_undivided=query.is_undivided,
        visible=query.visible,
        ids=query.ids,
        unfiltered=query.of_classes if query.where or query.parsed.fields else (),
    )


def check_fields(query: Query, entities: Mapping[str, Entity]) -> None:
    """Raises InvalidFilter for a field of facets, sort or limit_by that neither the mapped class nor the searched
    entities have."""
    wanted = [*(facet.field for facet in query.facets), *(sort.field for sort in query.sort)]
    wanted += [query.limit_by.field] if query.limit_by else []
    if query.columns is not None:
        query.columns.check(wanted)
    if wanted and query.has_stored:
        declared = _declared(query, entities, "facets, sort and limit_by look")
        for name in wanted:
            path_of(name, declared)
    if query.boosts.given:
        _check_boosts(query, query.boosts.given, entities)


def _check_boosts(query: Query, boosts: Sequence[Boost], entities: Mapping[str, Entity]) -> None:
    """Raises InvalidFilter for a boost by a field that the mapped class or the searched entities do not have."""
    if query.columns is not None:
        query.columns.check_boosts(boosts)
    if query.has_stored:
        declared = _declared(query, entities, "boosts look")
        for boost in boosts:
            probe_of(boost, declared)


def _filter(query: Query, entities: Mapping[str, Entity]) -> Filter | None:
    if not query.has_stored:
        return None
    where = parse_filter(query.where, _declared(query, entities, "`where` looks")) if query.where else None
    words = query.parsed.fields
    by_index = indexed(query, entities)
    members = [] if where is None else [where]
    members += [Comparison((field,), HAS_WORDS, text) for field, text in words if (field, text) not in by_index]
    return Group("$and", tuple(members)) if len(members) > 1 else next(iter(members), None)


def _declared(query: Query, entities: Mapping[str, Entity], option: str) -> FieldNames:
    """The names of the fields of the searched entities in the record store. Raises UnknownEntity."""
    named = [name for name in query.entities if name not in query.of_classes]
    missing = [name for name in named if name not in entities]
    if missing or not (entities or query.shared):
        raise UnknownEntity(
            f"{option} at the fields of records in the record store, which has no entity "
            f"{repr(missing[0]) if missing else 'yet'}. It has: {', '.join(entities) or 'none'}. "
            "The columns of a mapped class are meant where the class itself is searched: entity=Article"
        )
    return names_of(query, entities)
