"""Checks of the options that providers share. NumPy is not loaded for them."""

from ..errors import InvalidInput, printable, seen

MAX_NAME = MAX_PREFIX = 4096
MAX_QUERY_TIMEOUT_S = 86_400


def check_query_timeout(value: object) -> float | None:
    if value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_QUERY_TIMEOUT_S
    ):
        return value
    raise InvalidInput(
        f"query_timeout is a number of seconds over 0 and up to {MAX_QUERY_TIMEOUT_S:,}, or None for the provider's "
        f"own, not {seen(value)}"
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
