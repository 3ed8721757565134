"""What adapters of several frameworks need. Imports `errors`, `stores`, `orm` and `records`."""

from collections.abc import Callable, Coroutine, Mapping
from copy import copy
from functools import wraps
from typing import Any, Self, TypeVar

from ..errors import InvalidInput, UnknownEntity
from ..orm.callers import on_a_thread
from ..records import RecordStore
from ..records.reading import MAX_LIMIT as MAX_LIMIT
from ..stores.catalog import Entity

T = TypeVar("T")


class Adapter:
    """The records of an entity, in the transaction of a session where there is one."""

    entity: str
    _engine: Any
    _records: RecordStore
    _session: Any  # without a default, which would hide the private attribute of a pydantic model

    @property
    def engine(self) -> Any:
        """The SearchEngine, or its `for_tenant`."""
        return self._engine

    @property
    def records(self) -> RecordStore:
        return self._records

    def _open(
        self, engine: Any, entity: str, text: str, fields: Mapping[str, str] | None = None, filters: str = ""
    ) -> Entity:
        """Be of this entity, as `declare` makes it."""
        self._engine, self.entity, self._records = engine, entity, RecordStore(engine)
        self._session = None
        return declare(self._records, entity, text, fields, filters)

    def in_session(self, session: Any) -> Self:
        """The store inside the transaction of a session, which commits nothing; of an AsyncSession for coroutines."""
        inside = copy(self)
        inside._session = session
        return inside

    def _call(self, verb: str, *args: Any, **options: Any) -> Any:
        """What a verb of the record store returns for the entity."""
        return getattr(self._records, verb)(self.entity, *args, **{"session": self._session, **options})

    def _hits(self, query: str, **options: Any) -> Any:
        return self._engine.search(query, **{"entity": self.entity, "session": self._session, **options})


def awaited(method: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """The method of an adapter for coroutines, on a thread; in the transaction of its AsyncSession, or that of
    `session=`."""

    @wraps(method)
    async def call(self: Any, *args: Any, session: Any = None, **options: Any) -> T:
        def on_thread(session: Any = None) -> T:
            return method(self if session is None else self.in_session(session), *args, **options)

        return await on_a_thread(self._engine.index, on_thread, self._session if session is None else session)

    return call


def declare(
    records: RecordStore, entity: str, text: str, fields: Mapping[str, str] | None = None, filters: str = ""
) -> Entity:
    """Make the entity with one searchable field, and other fields, where it is missing. Raises InvalidInput where it is
    there and its field `text` is not searched, or its filters begin elsewhere."""
    try:
        found = records.entity(entity)
    except UnknownEntity:
        found = records.create_entity(entity, search=[text], fields=fields or {}, filters=filters, exist_ok=True)
    if not any(field.name == text and field.search is not None for field in found.fields):
        raise InvalidInput(
            f"the entity {entity} is of other records: its field {text!r} is not searched. Name another entity, or "
            f"alter_entity({entity!r}, search=[{text!r}])"
        )
    if found.filters != filters:
        raise InvalidInput(
            f"the filters of the entity {entity} begin in {found.filters or 'the record'}, not in "
            f"{filters or 'the record'}. Name another entity, or declare it by create_entity({entity!r}, "
            f"search=[{text!r}], filters={filters!r})"
        )
    return found


def check_lengths(count: int, **given: Any) -> None:
    """Raises InvalidInput for a list that is not of one a document."""
    for name, values in given.items():
        if values is not None and len(values) != count:
            raise InvalidInput(f"{name} has {len(values)} places for {count} documents: one each")
