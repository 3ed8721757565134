"""Terms of codes: their parts joined in every run, and the other ways to write them. Imports this package alone."""

import re
from collections.abc import Iterator, Sequence

from .words import Part, is_cyrillic

EVERY_RUN = 6  # parts of the longest code of which every run is a term; of longer ones pairs, and the whole
LONGEST_CODE = 40  # parts; what has more is no code that anybody types, and gets pairs alone

WRITTEN_AS_ONE = "-'.&"
MOST_WRITTEN_AS_ONE = 5
THOUSANDS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:\.[0-9]{3}){2,}")
TELEPHONE = re.compile(r"[0-9]+(?:[-/][0-9]{2,})+|[0-9]{2,}(?:\.[0-9]{2,})*\.[0-9]{4,}")
TELEPHONE_DIGITS = 7
ISBN = re.compile(r"(?=(?:[0-9]-?){9}[0-9x]$|(?:[0-9]-?){12}[0-9]$)[0-9]{1,9}(?:-[0-9]{1,7}){0,3}(?:-?x|-[0-9])")


Run = tuple[int, int, str]  # the first and the last part, and these joined


def joints(texts: Sequence[str], parts: Sequence[Part]) -> list[str]:
    """What joins each part to the one before it in a term."""
    found = [part.joint for part in parts]
    for at, joint in enumerate(found):
        if joint in ("-", "_"):
            found[at] = "-" if texts[at - 1][-1:].isdigit() == texts[at][:1].isdigit() else ""
    return found


def joined(texts: Sequence[str], parts: Sequence[Part]) -> str:
    """The whole code."""
    return "".join([joint + text for joint, text in zip(joints(texts, parts), texts, strict=True)])


def runs(texts: Sequence[str], parts: Sequence[Part]) -> list[Run]:
    """The runs of two and more parts."""
    count = len(texts)
    if count == 1:
        return []
    found: list[Run] = []
    tails = [joint + text for joint, text in zip(joints(texts, parts), texts, strict=True)]
    longest = count if count <= EVERY_RUN else 2
    for first in range(count - 1):
        run = texts[first]
        for last in range(first + 1, min(count, first + longest)):
            run += tails[last]
            found.append((first, last, run))
    if longest < count <= LONGEST_CODE:
        found.append((0, count - 1, "".join(tails)))
    return found


def written_as_one(parts: Sequence[Part]) -> list[Run]:
    """What is also written as one word or number: `Wi-Fi`, `O'Brien`, `Node.js`, `U.S.A`, `1,000`, `555-123-4567`."""
    if len(parts) == 1:
        text = parts[0].text
        return [(0, 0, text.replace("'", ""))] if "'" in text and is_cyrillic(text[0]) else []
    if number := _number(parts):
        return [(0, len(parts) - 1, number)]
    found: list[Run] = []
    for first, last in _letter_runs(parts):
        run = parts[first : last + 1]
        if _is_written_as_one(run):
            found.append((first, last, "".join([part.text for part in run])))
    return found


def _number(parts: Sequence[Part]) -> str:
    """The digits of a telephone number, an ISBN or a number with thousands, as one."""
    if not (parts[0].text.isdigit() and all(part.text.isdigit() or part.text == "x" for part in parts)):
        return ""
    digits = "".join([part.text for part in parts])
    text = "".join([part.joint + part.text for part in parts])
    is_telephone = len(digits) >= TELEPHONE_DIGITS and TELEPHONE.fullmatch(text)
    return digits if is_telephone or THOUSANDS.fullmatch(text) or ISBN.fullmatch(text) else ""


def _letter_runs(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """The longest runs of parts of letters that the same joint joins."""
    first, count = 0, len(parts)
    while first < count - 1:
        joint = parts[first + 1].joint
        last = first + 1
        while last + 1 < count and parts[last + 1].joint == joint:
            last += 1
        if joint and joint in WRITTEN_AS_ONE and all(part.text.isalpha() for part in parts[first : last + 1]):
            yield first, last
        first = last


def _is_written_as_one(run: Sequence[Part]) -> bool:
    if len(run) > MOST_WRITTEN_AS_ONE:
        return False
    return run[1].joint != "." or len(run) == 2 or all(len(part.text) == 1 for part in run)
