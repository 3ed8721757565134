"""Finds the encoding of a text. Imports `errors`.

It is the one that is named, else that of a byte order mark, else UTF-8 if the sample is, else UTF-16 where every second
byte is zero, else what charset-normalizer finds.
"""

import codecs
from dataclasses import dataclass
from typing import BinaryIO, cast

from ..errors import InvalidInput, seen
from .streams import recoded

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
DETECTED = 1 << 16
"""Bounds the bytes of lines with other characters than those of ASCII that an encoding is detected by. Chosen, not
measured."""
LIKELY = ("cp1252",)
"""What is taken where others are as good, as in short texts: the encoding of Western Europe in files of Windows."""
WIDE = ["utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be", "utf_7"]
"""What a few bytes are mistaken for."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """`mark` is the byte order mark that the text begins with. One that was `detected` may be another."""

    name: str
    mark: bytes = b""
    detected: bool = False

    @property
    def is_ascii(self) -> bool:
        """Whether the bytes of ASCII are themselves in it, so that lines can be split before they are decoded."""
        text = '\r\n",;|\t'
        return text.encode(self.name) == text.encode("ascii")


def known(name: str) -> str:
    """The name of a text encoding as Python has it. Raises InvalidInput."""
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        found = None
    if found is None or not found._is_text_encoding:
        raise InvalidInput(f"unknown encoding {seen(name)}. Known are utf-8, utf-16, cp1252, latin-1, gbk, …")
    return found.name


def encoding_of(sample: bytes, named: str | None, *, is_whole: bool) -> Encoding:
    """The encoding of a text that begins with `sample`. Raises InvalidInput where none is found."""
    mark, marked = next(((mark, name) for mark, name in MARKS if sample.startswith(mark)), (b"", None))
    if named is not None:
        name = known(named)
        is_meant = marked is not None and marked.startswith(name.removesuffix("-sig"))
        return Encoding(cast(str, marked), mark) if is_meant else Encoding(name)
    if marked is not None:
        return Encoding(marked, mark)
    if zeros := utf_16_by_zeros(sample):
        return Encoding(zeros)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, is_whole)
    except UnicodeDecodeError as error:
        return detected(sample, error)
    return Encoding("utf-8")


def utf_16_by_zeros(sample: bytes) -> str | None:
    """UTF-16 without a mark, where half of the first bytes at least are those of ASCII and zeros in turn."""
    first = sample[:200]
    for zeros, texts, name in ((first[1::2], first[::2], "utf-16-le"), (first[::2], first[1::2], "utf-16-be")):
        if len(zeros) > 1 and zeros.count(0) * 2 > len(zeros) and not texts.count(0):
            return name
    return None


def detected(sample: bytes, error: UnicodeDecodeError) -> Encoding:
    line = sample.count(b"\n", 0, error.start) + 1
    column = error.start - sample.rfind(b"\n", 0, error.start)
    what = f"not UTF-8: byte {sample[error.start]:#04x} at line {line}, column {column}. Name its encoding"
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        raise InvalidInput(
            f"{what}, such as --encoding cp1252, or have it detected: pip install 'kameleon[files]'"
        ) from error
    others = b"".join(line for line in sample.splitlines(keepends=True) if not line.isascii())[:DETECTED]
    found = [match for match in from_bytes(others, cp_exclusion=WIDE) if Encoding(match.encoding).is_ascii]
    if not found:
        raise InvalidInput(f"{what}: --encoding NAME") from error
    best = found[0]
    alike = [match for match in found if (match.chaos, -match.coherence) <= (best.chaos, -best.coherence)]
    names = {name for match in alike for name in match.could_be_from_charset}
    return Encoding(next((name for name in LIKELY if name in names), best.encoding), detected=True)


def in_utf_8(stream: BinaryIO, named: str | None) -> BinaryIO:
    """A stream of an encoding that was named in UTF-8; as it is where none was named."""
    return stream if named is None or known(named).startswith("utf-8") else recoded(stream, known(named))
