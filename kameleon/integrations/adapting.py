"""What adapters of several frameworks need. Imports `errors`, `records` and `stores`."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, TypeVar

from ..errors import InvalidInput, UnknownEntity
from ..records import RecordStore

T = TypeVar("T")
ALL = 2**53
"""The most records that `RecordStore.list` takes for a limit."""


def declare(records: RecordStore, entity: str, text: str, fields: Mapping[str, str]) -> None:
    """Make the entity with one searchable field, and other fields, where it is missing. Raises InvalidInput where it is
    there and its field `text` is not searched."""
    try:
        found = records.entity(entity)
    except UnknownEntity:
        found = records.create_entity(entity, search=[text], fields=fields, exist_ok=True)
    if not any(field.name == text and field.search is not None for field in found.fields):
        raise InvalidInput(
            f"the entity {entity} is of other records: its field {text!r} is not searched. Name another entity, or "
            f"alter_entity({entity!r}, search=[{text!r}])"
        )


def awaited(verb: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """The verb for coroutines, on a thread."""

    @wraps(verb)
    async def call(*args: Any, **options: Any) -> T:
        return await asyncio.to_thread(verb, *args, **options)

    return call
