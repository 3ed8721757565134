"""Reads the sizes of an index. Imports nothing of kameleon's but this package."""

from collections.abc import Callable, Sequence
from typing import Any

from .measures import SIZE, STATES
from .operations import log


def index_sizes(read: Callable[[], Sequence[Any]]) -> list[tuple[int, dict[str, str]]] | None:
    """The figures of each IndexStatus with their labels; None where the index cannot be read now, which is logged."""
    try:
        found = read()
    except Exception as error:  # noqa: BLE001 - the collection of all other metrics goes on
        log.warning("the status of the index cannot be read now: %s", type(error).__name__)
        return None
    return [
        (getattr(one, state), dict(zip(SIZE.labels, (one.entity, state), strict=True)))
        for one in found
        for state in STATES
    ]
