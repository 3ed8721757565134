"""Reads the rules of synonyms: `nyc, new york` for words that find each other, `tablet => ipad` for one that finds the
other. Imports `errors` and `content`."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..content import normalize
from ..errors import InvalidInput, seen

ARROW, COMMENT, BYTE_ORDER_MARK = " => ", "#", "\ufeff"
EXAMPLES = "write 'nyc, new york' or 'tablet => ipad, galaxy tab'"
MAX_RULE_BYTES = 1_000
"""Bounds a rule, which is part of a key: PostgreSQL indexes 2,704 bytes at most."""
PIECE = re.compile(r"\\(?P<escaped>.)|(?P<arrow>=>)|(?P<comma>,)|(?P<plain>[^\\,=]+|.)", re.DOTALL)
RESERVED = re.compile(r"[\\,]|=>|^#")


class SynonymRule(NamedTuple):
    """A query with one of `sources` also finds `targets`; where there are none, the other sources. As text, which is
    the normal form, each are in alphabetical order and once."""

    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ARROW.join(", ".join(map(_escaped, side)) for side in self if side)


def read_rule(text: object) -> SynonymRule:
    """Raises InvalidInput."""
    if not isinstance(text, str):
        raise InvalidInput(f"a rule of synonyms is text such as 'nyc, new york', not {type(text).__name__}")
    sides = [_ordered(side) for side in _sides(normalize(text))]
    if len(sides) > 2 or "" in {each for side in sides for each in side}:
        raise InvalidInput(f"{seen(text)} is no rule of synonyms: {EXAMPLES}")
    rule = SynonymRule(*sides)
    if not rule.targets and len(rule.sources) < 2:
        raise InvalidInput(f"{seen(text)} names one word, and a rule has two or more: {EXAMPLES}")
    if len(str(rule).encode()) > MAX_RULE_BYTES:
        raise InvalidInput(f"a rule has {MAX_RULE_BYTES:,} bytes at most, and this one has more: {seen(text, 40)}")
    return rule


def read_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The rules of a text with the numbers of their lines, without empty lines and those that begin with `#`."""
    for number, line in enumerate(lines, 1):
        rule = line.removeprefix(BYTE_ORDER_MARK).strip()
        if rule and not rule.startswith(COMMENT):
            yield number, rule


def _sides(text: str) -> list[list[str]]:
    sides = [[""]]
    for piece in PIECE.finditer(text):
        if piece["arrow"]:
            sides.append([""])
        elif piece["comma"]:
            sides[-1].append("")
        else:
            sides[-1][-1] += piece["escaped"] or piece["plain"]
    return sides


def _ordered(side: Iterable[str]) -> tuple[str, ...]:
    written = dict.fromkeys(" ".join(each.split()) for each in side)
    return tuple(sorted(written, key=lambda each: (each.casefold(), each)))


def _escaped(side: str) -> str:
    return RESERVED.sub(lambda found: "\\" + found.group(), side)
