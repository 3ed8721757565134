"""Checks what providers return and raise. Imports `errors`."""

import re
from typing import Any

import numpy as np

from ..errors import ProviderError, ProviderUnavailable, TextRefused
from .provider import Vector

SECRET = re.compile(
    r"""(bearer\s+|(?:api[-_ ]?key|authorization|password|secret|token)["']?\s*[=:]\s*["']?)[^\s"',;&]{6,}"""
    r"|\b(?:sk|pk|rk|hf|gsk|ghp|pa|xai)[-_][\w-]{12,}",
    re.IGNORECASE,
)

UNIT = 1e-6
"""Bounds how far from 1 the length of a vector may be that is kept as it is: float32 numbers have no more digits."""


def provider_error(error: Exception) -> ProviderError:
    """What a provider raised, or put in a position, as one of our errors: operating-system and network errors are
    outages, everything else may be about the texts."""
    if isinstance(error, ProviderError):
        return error
    message = f"{type(error).__name__}: {without_secrets(message_of(error))}"
    made: ProviderError = Unexplained(message)
    if isinstance(error, OSError):
        made = ProviderUnavailable(message, timed_out=isinstance(error, TimeoutError))
    made.__cause__ = error
    return made


def outage(error: Exception) -> ProviderError:
    """What a method raised that is given no text, as one of our errors: never an error of a text."""
    made = provider_error(error)
    if not isinstance(made, TextRefused):
        return made
    unavailable = ProviderUnavailable(str(made))
    unavailable.__cause__ = error
    return unavailable


def message_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the `__str__` of an application's exception may raise anything
        return "no message"


def without_secrets(text: str) -> str:
    """What looks like a key or a password taken out: client libraries quote the headers that they sent."""
    return SECRET.sub(lambda found: f"{found[1] or ''}…", text)


class Unexplained(TextRefused):
    """A failure that the provider did not name as one of the text: it may be the text's, or the provider's own."""


def checked(vector: Any, dimensions: int) -> Vector | ProviderError:
    """The vector with length 1, or the error of its position."""
    if isinstance(vector, Exception):
        return provider_error(vector)
    try:
        return check_vector(vector, dimensions)
    except TextRefused as error:
        return error


def check_vector(vector: Any, dimensions: int) -> Vector:
    """The vector as float32 of length 1. Raises Unexplained: wrong_dimension, not_finite (also for a zero vector)."""
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
            array = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise Unexplained(f"not a vector of numbers: {error}") from error
    if array.shape != (dimensions,):
        count = array.shape[0] if array.ndim == 1 else array.shape
        raise Unexplained(f"{count} numbers, the model has {dimensions}", reason="wrong_dimension")
    length = float(np.sqrt(np.dot(array, array)))
    if not np.isfinite(length):
        raise Unexplained("the vector holds NaN or infinity", reason="not_finite")
    if length == 0.0:
        raise Unexplained("the vector is zero, it has no direction", reason="not_finite")
    return array if abs(length - 1.0) <= UNIT else array / np.float32(length)
