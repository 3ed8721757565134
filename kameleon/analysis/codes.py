"""Terms of codes: their parts joined in every run, and the other ways to write them. Imports only `words`."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from .words import Part, is_cyrillic

EVERY_RUN = 6  # parts of the longest code of which every run is a term; of longer ones pairs, and the whole
LONGEST_CODE = 40  # parts; what has more is no code that anybody types, and gets pairs alone

WRITTEN_AS_ONE = "-'.&"
MOST_WRITTEN_AS_ONE = 5
THOUSANDS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:\.[0-9]{3}){2,}")
TELEPHONE = re.compile(r"[0-9]+(?:[-/][0-9]{2,})+|[0-9]{2,}(?:\.[0-9]{2,})*\.[0-9]{4,}")
TELEPHONE_DIGITS = 7


def joined(texts: Sequence[str], parts: Sequence[Part]) -> str:
    """The whole code."""
    return "".join([texts[0], *(joint(part, texts, at) + texts[at] for at, part in enumerate(parts[1:], 1))])


def runs(texts: Sequence[str], parts: Sequence[Part]) -> Iterator[tuple[int, int, str]]:
    """(first, last, joined) of the runs of two and more parts."""
    count = len(parts)
    longest = count if count <= EVERY_RUN else 2
    for first in range(count - 1):
        run = texts[first]
        for last in range(first + 1, min(count, first + longest)):
            run += joint(parts[last], texts, last) + texts[last]
            yield first, last, run
        if first == 0 and longest < count <= LONGEST_CODE:
            yield 0, count - 1, joined(texts, parts)


def joint(part: Part, texts: Sequence[str], at: int) -> str:
    """What joins a part to the one before it in a term."""
    if part.joint in ("-", "_"):
        return "-" if texts[at - 1][-1:].isdigit() == texts[at][:1].isdigit() else ""
    return part.joint


def written_as_one(parts: Sequence[Part], elisions: frozenset[str]) -> Iterator[tuple[int, int, str]]:
    """(first, last, word) of what is also written as one word or number: `Wi-Fi`, `O'Brien`, `Node.js`, `U.S.A`,
    `1,000`, `555-123-4567`."""
    if len(parts) == 1:
        if "'" in parts[0].text and is_cyrillic(parts[0].text[0]):
            yield 0, 0, parts[0].text.replace("'", "")
        return
    number = _number(parts)
    if number:
        yield 0, len(parts) - 1, number
        return
    for first, last in _letter_runs(parts):
        run = parts[first : last + 1]
        if _is_written_as_one(run, elisions):
            yield first, last, "".join(part.text for part in run)


def _number(parts: Sequence[Part]) -> str:
    if not all(part.text.isdigit() for part in parts):
        return ""
    digits = "".join(part.text for part in parts)
    text = parts[0].text + "".join(part.joint + part.text for part in parts[1:])
    is_telephone = len(digits) >= TELEPHONE_DIGITS and TELEPHONE.fullmatch(text)
    return digits if is_telephone or THOUSANDS.fullmatch(text) else ""


def _letter_runs(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """The longest runs of parts of letters that the same joint joins."""
    first = 0
    for joins, group in groupby(range(1, len(parts)), key=lambda at: parts[at].joint):
        members = [*group]
        first = members[0] - 1
        run = parts[first : members[-1] + 1]
        if joins and joins in WRITTEN_AS_ONE and all(part.text.isalpha() for part in run):
            yield first, members[-1]


def _is_written_as_one(run: Sequence[Part], elisions: frozenset[str]) -> bool:
    if len(run) > MOST_WRITTEN_AS_ONE or (run[1].joint == "'" and run[0].text in elisions):
        return False
    return run[1].joint != "." or len(run) == 2 or all(len(part.text) == 1 for part in run)
