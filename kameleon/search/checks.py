"""Checks arguments of a search: each raises InvalidInput, naming what is possible. Imports `errors`, `content`
and `embeddings`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..content import check_id, normalize
from ..errors import InvalidInput, TextRefused, seen

if TYPE_CHECKING:
    from ..embeddings.provider import Vector

MAX_LIMIT = 10_000
"""Bounds where the last page of a search may end. Chosen, not measured."""
MAX_IDS = 10_000
"""Bounds the ids that one search is among. Chosen, not measured."""


def check_text(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidInput(f"a query is text, not {type(text).__name__}")
    return normalize(text)


def check_query_vector(vector: Any) -> "Vector":
    """With length 1, of whatever dimensions: the generation that it is compared with is chosen later."""
    from ..embeddings.checking import check_vector  # NumPy loads with it

    try:
        return check_vector(vector, len(vector))
    except (TextRefused, TypeError) as error:
        reason = error if isinstance(error, TextRefused) else type(vector).__name__
        raise InvalidInput(f"vector is a list of numbers, the embedding of a query: {reason}") from error


def check_ids(ids: Iterable[object] | None) -> tuple[str, ...] | None:
    """As text. Raises InvalidInput."""
    if ids is None:
        return None
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InvalidInput(f"ids is a list of record ids, not {seen(ids)}")
    given = dict.fromkeys(map(read_id, ids))
    if len(given) > MAX_IDS:
        raise InvalidInput(f"ids are {MAX_IDS:,} at most, not {len(given):,}: describe the records with where=")
    return tuple(given)


def read_id(value: object) -> str:
    """As text, a UUID too. Raises InvalidRecord."""
    return check_id(str(value) if isinstance(value, UUID) else value)


def check_min_score(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise InvalidInput(f"min_score lies between 0 and 1, as scores do; got {seen(value)}")


def check_diversity(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise InvalidInput(f"diversity is a number from 0 (by relevance alone) to 1, not {seen(value)}")
    return float(value)


def check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_LIMIT:
        raise InvalidInput(f"{name} is a whole number of hits from {least} to {MAX_LIMIT:,}, not {seen(value)}")


def check_within(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(f"{name} is a whole number from {least} to {most:,}, not {seen(value)}")


def check_weight(weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise InvalidInput(f"weight is the vector's share of a score, a number from 0 to 1, not {seen(weight, 80)}")
    return float(weight)
