"""Reads which records a caller names: (entity, id) pairs, hits and refs, or ids of one entity. Pure. Imports `values`,
`errors` and `content`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

from ..content import check_entity, check_id, check_tenant
from ..errors import InvalidInput, seen
from ..values import Ref, SearchResult
from .checks import read_id


class RefReader:
    """`name_of` gives the entity of a mapped class or a name; where one entity is searched, its ids are enough."""

    def __init__(self, name_of: Callable[[object], str], entities: Sequence[str] = ()) -> None:
        self._name_of = name_of
        self._entities = entities

    def read(self, option: str, given: object, most: int) -> tuple[Ref, ...]:
        """The records in their order, once each; of those without a tenant it is "". Raises InvalidInput."""
        if given is None:
            return ()
        if isinstance(given, str | Mapping | Ref) or not isinstance(given, Iterable):
            raise InvalidInput(f"{option} is a list of records, as [('Product', 'p-1')], not {seen(given)}")
        refs = tuple(dict.fromkeys(self._ref(option, one) for one in given))
        if len(refs) > most:
            raise InvalidInput(f"{option} takes {most:,} records at most, not {len(refs):,}")
        return refs

    def _ref(self, option: str, one: object) -> Ref:
        if isinstance(one, SearchResult):
            return Ref(one.entity, one.id, one.tenant)
        if isinstance(one, Ref):
            return Ref(check_entity(one.entity), check_id(one.id), check_tenant(one.tenant))
        if isinstance(one, tuple | list) and len(one) == 2:
            return Ref(check_entity(self._name_of(one[0])), read_id(one[1]))
        if not isinstance(one, str | int | UUID):
            raise InvalidInput(f"{option} names records as (entity, id), as hits or as refs, not as {seen(one)}")
        if len(self._entities) != 1:
            raise InvalidInput(
                f"{option} names {seen(one)} without its entity, which is enough only where one entity is searched: "
                "give (entity, id)"
            )
        return Ref(self._entities[0], read_id(one))
