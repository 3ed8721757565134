"""Checks the options that providers share. NumPy is not loaded for them. Imports `errors`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import InvalidInput, printable, seen

MAX_NAME = MAX_PREFIX = 4096
"""Bound what a row of the registry holds of a provider, in characters. Chosen, not measured."""
MAX_QUERY_TIMEOUT_S = 86_400
MIN_PASSAGE_TOKENS = 16
"""Bounds the passages of a text: an eighth of a passage is in two of them."""


def check_query_timeout(value: object) -> float | None:
    if value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_QUERY_TIMEOUT_S
    ):
        return value
    raise InvalidInput(
        f"query_timeout is a number of seconds over 0 and up to {MAX_QUERY_TIMEOUT_S:,}, or None for the provider's "
        f"own, not {seen(value)}"
    )


def check_passage_tokens(value: object) -> int | None:
    if value is None or (
        isinstance(value, int) and not isinstance(value, bool) and (value == 0 or value >= MIN_PASSAGE_TOKENS)
    ):
        return value
    raise InvalidInput(
        f"passage_tokens is a whole number of tokens from {MIN_PASSAGE_TOKENS} on, 0 to embed a text's beginning "
        f"alone, or None for as many as the model reads, not {value!r:.80}"
    )


def check_prefix(name: str, value: object) -> str:
    if isinstance(value, str) and len(value) <= MAX_PREFIX:
        return value
    raise InvalidInput(f"{name} is text of {MAX_PREFIX} characters at most, not {seen(value)}")


def check_revision(value: object) -> str:
    if isinstance(value, str) and printable(value) == value and len(value) <= MAX_NAME:
        return value
    raise InvalidInput(
        f"revision is text of {MAX_NAME} characters at most, without control characters, not {seen(value)}"
    )


def outside(model_name: str) -> str:
    """States what an index of given vectors lacks, and how it gets it."""
    return (
        f"the vectors of {model_name} come from outside, kameleon makes none: insert(…, embeddings=[…]) or `kameleon "
        "data insert ENTITY FILE --embeddings FIELD` gives them, and an engine whose provider makes vectors of this "
        "model name, dimensions and revision makes those that are missing"
    )


CHECKS: Mapping[str, Callable[[object], Any]] = {
    "passage_tokens": check_passage_tokens,
    "passage_prefix": partial(check_prefix, "passage_prefix"),
    "query_prefix": partial(check_prefix, "query_prefix"),
    "query_timeout": check_query_timeout,
    "revision": check_revision,
}
"""By option."""
