"""Reads what servers really answer in OpenAI's protocol: a response's vectors, and the reason of an error. Imports
`errors`."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

import numpy as np

from ..errors import UNPRINTABLE
from .checking import without_secrets
from .provider import Vector

MAX_REASON, MAX_BODY, MAX_NESTED = 300, 100_000, 4
"""Bound the characters of a reason and of what is read for it, and the objects around it. Chosen, not measured."""
NO_READING = re.compile(r"<(script|style|head\b(?=.*</head>))[^>]*>.*?</\1[^>]*>", re.IGNORECASE | re.DOTALL)
TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"<[a-zA-Z!/][^>]*>")
REASON_FIELDS = ("message", "error", "detail", "errors", "msg", "reason", "description", "title")


class BadEncoding(ValueError):
    """An embedding whose base64 cannot be read."""


def tokens_of(answer: Any) -> int | None:
    """The tokens that a server counted of a request, None where it does not."""
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    tokens = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    return tokens if type(tokens) is int and tokens >= 0 else None


def vectors(answer: Any, count: int) -> list[Vector]:
    """The vectors of a response in the order of its texts, however many they are. Raises ValueError, TypeError or
    KeyError for what is none."""
    rows = answer if isinstance(answer, list) and answer else None
    if isinstance(answer, Mapping):
        rows = answer["data"] if "data" in answer else answer["embeddings"]
        rows = [] if rows is None else rows
    if not isinstance(rows, list):
        raise TypeError(f"{type(rows or answer).__name__} in place of embeddings")
    return [decoded(row["embedding"] if isinstance(row, Mapping) else row) for row in in_order(rows, count)]


def in_order(rows: Sequence[Any], count: int) -> Sequence[Any]:
    """Sorted by `index` where the indexes number the texts; as they come where these are absent, null or repeated."""
    indexes = [index_of(row) for row in rows]
    if len(rows) != count or None in indexes or len(set(indexes)) < count:
        return rows
    return [row for _, row in sorted(zip(indexes, rows, strict=True), key=lambda pair: pair[0] or 0)]


def index_of(row: Any) -> int | None:
    index = row.get("index") if isinstance(row, Mapping) else None
    try:
        return None if index is None or isinstance(index, bool) else int(index)
    except (TypeError, ValueError, OverflowError):
        return None


def decoded(embedding: Any) -> Vector:
    """From base64 of little-endian float32, or from a list of numbers, whichever was requested."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
        except (binascii.Error, ValueError) as error:
            raise BadEncoding(f"the server's base64 cannot be read: {error}") from error
    if not isinstance(embedding, list):
        raise TypeError(f"an embedding is a list of numbers or base64, not {type(embedding).__name__}")
    array = np.asarray(embedding, dtype=np.float32)
    return array[0] if array.ndim == 2 and len(array) == 1 else array


def error_of(answer: Any) -> Mapping[str, Any] | None:
    """The error in a response, whatever its status."""
    if not isinstance(answer, Mapping) or answer.get("data") or answer.get("embeddings"):
        return None
    error = answer.get("error")
    if isinstance(error, Mapping):
        return error
    if error or answer.get("object") == "error" or "detail" in answer or answer.get("errors"):
        return answer
    return answer if "message" in answer and "data" not in answer else None


def status_of(error: Mapping[str, Any]) -> int:
    """The HTTP status that an error in a response of status 200 names, 400 where it names none."""
    for name in ("code", "status", "status_code"):
        value = str(error.get(name, ""))
        if value.isascii() and value.isdigit() and 400 <= int(value[:6]) < 600:
            return int(value)
    return 400


def reason_of(body: bytes | str) -> str:
    """The server's own reason as one short line: without markup, control characters and what looks like a secret."""
    text = (body.decode("utf-8", "replace") if isinstance(body, bytes) else body)[:MAX_BODY]
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return cleaned(readable(text))
    return cleaned(readable(from_json(parsed) or text))


def from_json(value: Any, depth: int = 0) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth < MAX_NESTED:
        return "; ".join(filter(None, (from_json(item, depth + 1) for item in value[:5])))
    if not isinstance(value, Mapping) or depth >= MAX_NESTED:
        return ""
    found = next(filter(None, (from_json(value.get(name), depth + 1) for name in REASON_FIELDS)), "")
    place = value.get("loc")
    if found and isinstance(place, list):
        return f"{'.'.join(str(part) for part in place[:6])}: {found}"
    return found


def readable(text: str) -> str:
    """The words of a page of HTML, its title first; other text as it is."""
    if "<" not in text or not TAG.search(text):
        return text
    title = TITLE.search(text)
    body = TAG.sub(" ", NO_READING.sub(" ", text))
    return unescape(f"{title[1]}: {body}" if title else body)


def cleaned(text: str) -> str:
    line = " ".join(UNPRINTABLE.sub(" ", without_secrets(text)).split())
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}…"
