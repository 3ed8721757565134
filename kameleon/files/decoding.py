"""Decodes the text of a whole file. Imports nothing of kameleon's."""

import codecs
from collections.abc import Callable

MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
DETECTED_WITHIN = 1 << 16
"""Bounds the bytes by which an encoding is detected. Chosen, not measured."""


def decoded(raw: bytes, encoding: str | None, note: Callable[[str], None]) -> str:
    """The text of a file by its byte order mark, as the encoding that is given, as UTF-8, or as what it seems to be;
    with line feeds between lines. Raises ValueError."""
    for mark, marked in MARKS:
        if raw.startswith(mark):
            return with_line_feeds(as_text(raw[len(mark) :], marked))
    try:
        return with_line_feeds(as_text(raw, encoding or "utf-8"))
    except ValueError:
        found = None if encoding else detected(raw[:DETECTED_WITHIN])
        if found is None:
            raise
        note(f"read as {found}, for it is not UTF-8: --encoding names another")
        return with_line_feeds(as_text(raw, found))


def as_text(raw: bytes, encoding: str) -> str:
    """Raises ValueError."""
    try:
        return raw.decode(encoding)
    except LookupError as error:
        raise ValueError(f"unknown encoding {encoding!r:.40}. --encoding names one, such as windows-1252") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        what = f"byte {raw[error.start]:#04x} at line {line}, column {column} is not {encoding}"
        raise ValueError(f"{what}. --encoding names another, such as windows-1252") from error


def detected(raw: bytes) -> str | None:
    """What bytes seem to be encoded as; None where nothing fits, or without the package that detects it."""
    try:
        import charset_normalizer
    except ImportError:
        return None
    best = charset_normalizer.from_bytes(raw).best()
    return best.encoding if best is not None else None


def with_line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
