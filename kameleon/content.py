"""Renders records as searchable text, and adds to that text what the keyword index needs. Imports `errors`.

`analyze` serves both databases and both sides: contents and queries pass through the same function.
It adds what the built-in analysers lose. They cut at every symbol, so `C++` becomes `c` and `POL-358` two common
halves; and they take a run of Chinese or Japanese for one long word, so nothing in it is found.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from math import inf, log10
from typing import Any

from .errors import InvalidInput, InvalidRecord, seen

MAX_ID_BYTES, MAX_ENTITY_BYTES = 1024, 255
"""Bound the columns of a key: PostgreSQL indexes 2,704 bytes at most."""
MAX_WEIGHT = 10
"""Bounds how often the keyword index holds the words of a field. Chosen, not measured."""

CJK = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
CJK_RUN = re.compile(f"[{CJK}]+")
CODE = re.compile(
    r"(?<!\w)(?:"
    r"[#.]?+\w++(?:[-./:@&+'’]\w++)++(?:\+\+|\#)?+"  # POL-358, don't, Node.js, #POL-358
    r"|\w++(?:\+\+|\#)(?!\w)"  # C++, C#
    r"|[#.]\w++"  # #12345, .NET
    r"|\w*_\w*"  # ERR_CONN_RESET
    r")"
)
JOINT = re.compile(r"[-./:@&+'’_#](?=[\w+#])(?!(?<=['’])s\b)")
SHARP = re.compile(r"(?<=\w)#")
PREFIXES = {"#": "hash", ".": "dot"}
SPELLED = str.maketrans({**dict.fromkeys("-./:@&'’_"), "+": "plus", "#": "sharp"})


def normalize(text: str) -> str:
    """The text as both databases can hold it: PostgreSQL refuses NUL, and neither takes half of a surrogate pair.

    NUL becomes a space. Raises InvalidRecord for a lone surrogate, the remains of a lost character.
    """
    if "\0" in text:
        text = text.replace("\0", " ")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRecord(
            f"a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}: no database can store it. "
            "Decode the source with errors='replace', or drop the character"
        ) from error
    return text


def content_hash(content: str) -> str:
    """128 bits of BLAKE2b in hex; the empty string for empty content or white space."""
    if not content or content.isspace():
        return ""
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def analyze(text: str) -> str:
    """The text and, at its end so that phrases stay whole, the terms an analyser would lose."""
    extra = lost_terms(text)
    return f"{text} {extra}" if extra else text


def lost_terms(text: str) -> str:
    """The terms that a database's own analyser would lose, as plain words."""
    terms: list[str] = []
    if words := joined_words(text):
        terms += [code for match in CODE.finditer(" ".join(words)) if (code := spell(match.group())) is not None]
    if not text.isascii():
        terms += [pair for run in CJK_RUN.findall(text) for pair in bigrams(run)]
    return " ".join(terms)


def joined_words(text: str) -> list[str]:
    """The stretches between spaces that hold a symbol an analyser would cut at: the only ones worth a closer look."""
    words = []
    end = 0
    joints = JOINT.finditer(text)
    if "#" in text:
        joints = iter(sorted([*joints, *SHARP.finditer(text)], key=re.Match.start))
    for match in joints:
        if match.start() >= end:
            start = text.rfind(" ", 0, match.start()) + 1
            end = text.find(" ", match.start())
            end = end if end >= 0 else len(text)
            words.append(text[start:end])
    return words


def spell(code: str) -> str | None:
    """One plain word for a code: `C++` cplusplus, `C#` csharp, `.NET` dotnet, `#12345` hash12345, `POL-358` POL358."""
    prefix = PREFIXES.get(code[0])
    word = prefix + code[1:].translate(SPELLED) if prefix else code.translate(SPELLED)
    return word if word.isalnum() and word != code else None


def bigrams(run: str) -> Iterator[str]:
    """Every two neighbours and every single character of a run, so that a query of either length meets them."""
    yield from run
    if len(run) > 1:
        for left, right in pairwise(run):
            yield left + right


def render(data: Mapping[str, Any], fields: Iterable[str]) -> str:
    """Render a record: its searchable fields in order, one line each; lists are joined, objects too, in the order of
    their names (JSONB keeps no other); empty fields are left out."""
    return "\n".join(text for field in fields if (text := text_of(data.get(field))))


def emphasized(weighted: Iterable[tuple[str, int]]) -> str:
    """Repeat texts that weigh more than 1, for the keyword index."""
    return " ".join(text for text, weight in weighted if text for _ in range(weight - 1))


def field_weights(fields: Iterable[str] | Mapping[str, float]) -> dict[str, int]:
    """Fields by weight, 1 where none is named. Raises InvalidInput."""
    named = dict(fields) if isinstance(fields, Mapping) else dict.fromkeys(fields, 1)
    for field, weight in named.items():
        if not isinstance(weight, int | float) or weight not in range(1, MAX_WEIGHT + 1):
            raise InvalidInput(
                f"the weight of {seen(field)} is a whole number from 1 to {MAX_WEIGHT}, not {seen(weight)}"
            )
    return {field: int(weight) for field, weight in named.items()}


def text_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(text for name in sorted(value, key=str) if (text := text_of(value[name])))
    if isinstance(value, list | tuple):
        return ", ".join(text for item in value if (text := text_of(item)))
    if isinstance(value, float):
        return str(int(value) if 1e16 <= abs(value) < inf else value + 0.0)  # JSONB keeps no exponent and no -0.0
    return str(value)


def check_entity(name: object) -> str:
    return _check_key(name, "an entity name", MAX_ENTITY_BYTES)


def check_id(value: object) -> str:
    """A record's id as text: strings and integers as they are."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > 4 * MAX_ID_BYTES:  # Python converts no number of over 4,300 digits
            digits = int(value.bit_length() * log10(2)) + 1
            raise InvalidRecord(
                f"a record id may have {MAX_ID_BYTES} bytes at most, this number has about {digits} digits"
            )
        value = str(value)
    return _check_key(value, "a record id", MAX_ID_BYTES)


def _check_key(value: object, what: str, limit: int) -> str:
    if not isinstance(value, str):
        raise InvalidRecord(f"{what} is text or a whole number, not {type(value).__name__} ({seen(value)})")
    if not value or "\0" in value:
        raise InvalidRecord(f"{what} must not be empty or hold NUL, got {seen(value)}")
    if 4 * len(value) <= limit and value.isascii():
        return value
    if len(normalize(value).encode()) > limit:
        raise InvalidRecord(
            f"{what} may have {limit} bytes at most, this one has {len(value.encode())}: {seen(value, 40)}…"
        )
    return value
