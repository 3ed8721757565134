"""Decodes the text of a whole file. Imports nothing of kameleon's."""

from collections.abc import Callable

from .encodings import encoding_of


def decoded(raw: bytes, encoding: str | None, note: Callable[[str], None]) -> str:
    """The text of a file with line feeds between its lines. Raises ValueError for what cannot be decoded, InvalidInput
    for an unknown encoding."""
    found = encoding_of(raw, encoding, is_whole=True)
    if found.detected:
        note(f"read as {found.name}, which it seems to be. --encoding names another")
    try:
        text = raw[len(found.mark) :].decode(found.name)
    except UnicodeDecodeError as error:
        start = error.start + len(found.mark)
        line, column = raw.count(b"\n", 0, start) + 1, start - raw.rfind(b"\n", 0, start)
        what = f"byte {raw[start]:#04x} at line {line}, column {column} is not {found.name}"
        raise ValueError(f"{what}. --encoding names another") from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
