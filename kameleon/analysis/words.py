"""Words and codes in a normalised text: where they begin and end, and the parts that codes have. Imports this package
alone.

A code is a run of parts with joints between: `POL-358-A`, `src/App.java`, `jane.roe@example.org`, `v1.2.3`, `AT&T`,
`12:30`, `11.83`; also `500GB`, `SPZ007`, and what has a symbol before or after: `C++`, `#12345`, `.NET`, `@jane`.
Chinese, Japanese and Korean, Thai, Lao, Khmer and Burmese are runs of characters, each with its marks.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from .characters import EMOJI

# What belongs to the character before it: marks of the scripts below, and the vowels and finals of Hangul.
MARKS = (
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u1056-\u1059\u105e-\u1060\u1062-\u1064"
    "\u1067-\u106d\u1071-\u1074\u1082-\u108d\u108f\u109a-\u109d\u1161-\u1175\u11a8-\u11c2\u17b6-\u17d3\u17dd\u19b0-\u19c9"
    "\u1a55-\u1a7f\u302a-\u302f\u3099\u309a\ua9e5\uaa7b-\uaa7d\uaab0-\uaabf\uaac1"
)
UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edf\u1000-\u109f\u1100-\u11ff\u1780-\u17df\u1950-\u19df\u1a20-\u1aad"
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u302a-\u302f\u3031-\u3035\u3038-\u30fa\u30fc-\u312f\u3131-\u318e"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c\ua9e0-\ua9fe\uaa60-\uaadf\uac00-\ud7ff"
    "\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
PUNCTUATION = r"\x00-/:-@\[-`{-\x7f"
LETTER = f"[^{PUNCTUATION}{UNSPACED}{EMOJI}]"
ASCII_LETTER = "[0-9a-z]"
CODE = r"""
    (?: (?<![^ (\[{"',;:/<>=|]) (?: [\#@] | \.(?=[^\W\d]) ) )?
    LETTER+ (?: (?: :: | [-'./:@&+_^\#] | (?<=[0-9]),(?=[0-9]) | (?<=[א-ת])"(?=[א-ת]) ) LETTER+ )*
    (?: \+\+?(?![+]|LETTER) | \+\+(?=[0-9]) | \#(?!LETTER) )?
"""
ASCII_TOKEN = re.compile(f"(?P<code>{CODE})".replace("LETTER", ASCII_LETTER), re.VERBOSE)
TOKEN = re.compile(
    f"(?P<code>{CODE})|(?P<run>[{UNSPACED}]+)|(?P<emoji>[\U0001f1e6-\U0001f1ff]{{2}}|[{EMOJI}])".replace(
        "LETTER", LETTER
    ),
    re.VERBOSE,
)
ASCII_PART = re.compile(f"{ASCII_LETTER}+")
PART = re.compile(f"{LETTER}+")
MARK = re.compile(f"[{MARKS}]")
CHARACTER = re.compile(f".[{MARKS}]*")
COMPACT = re.compile(r"[0-9]+|[^0-9]+")
HAS_DIGIT = re.compile(r"[0-9]")
ORDINALS = frozenset(("st", "nd", "rd", "th", "er", "ème", "eme"))
# Units that may follow a number after a space, and those that only do without one, being words too.
SPACED_UNITS_TEXT = """
    kb mb gb tb pb kib mib gib tib bit kbit mbit gbit kbps mbps gbps bps
    g kg mg µg μg ug ng lb lbs oz m km cm mm nm µm μm ft yd l ml dl cl px rem dpi ppi
    hz khz mhz ghz thz w kw mw gw kwh wh mwh v kv mv mah ah ohm kohm db dba lm lx cd
    kcal cal kj mj hpa kpa mpa psi rpm fps mph kmh kn ns µs μs sec min hr hrs mol mmol
    mm2 cm2 m2 km2 mm3 cm3 m3 usd eur gbp chf
"""
JOINED_UNITS_TEXT = "a b c f h j k n s t x in um us ma pa em gal mp mi ms pt miles mile bar inch"
SPACED_UNITS = frozenset(SPACED_UNITS_TEXT.split())
UNITS = SPACED_UNITS | frozenset(JOINED_UNITS_TEXT.split())
LONGEST_COMPACT = 4
SHORTEST_NAME = 4  # letters before one digit that is a part of its own


class Part(NamedTuple):
    """A part of a word: its letters and its place in the normalised text, and the joint before it."""

    text: str
    start: int
    end: int
    joint: str = ""


class Word(NamedTuple):
    """What stands in a text as one: a word has one part, a code several; `before` and `after` are its symbols. Of a
    run without spaces the parts are its characters."""

    parts: tuple[Part, ...]
    before: str = ""
    after: str = ""
    is_run: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is no code."""
        return len(self.parts) == 1 and not (self.before or self.after or self.is_run)


class Apostrophes(NamedTuple):
    """What a language's apostrophes do: endings that make one word with what is before, and beginnings that are words
    of their own."""

    endings: frozenset[str] = frozenset()
    elisions: frozenset[str] = frozenset()
    drops_possessive: bool = False


def words(text: str, apostrophes: Apostrophes) -> Iterator[Word]:
    """The words of a normalised text, in order."""
    for match in (ASCII_TOKEN if text.isascii() else TOKEN).finditer(text):
        found = match.group()
        if match.lastgroup == "run":
            yield Word(tuple(characters(found, match.start())), is_run=True)
        elif match.lastgroup == "emoji" or found.isalpha():
            yield Word((Part(found, *match.span()),))
        else:
            yield from code(found, match.start(), apostrophes)


def code(text: str, start: int, apostrophes: Apostrophes) -> Iterator[Word]:
    """A code, or several words of which all but the last are elided (`l'avion`)."""
    parts = _parts(text, start)
    if "'" in text or '"' in text:
        parts = _without_apostrophes(parts, apostrophes)
    if HAS_DIGIT.search(text):
        parts = [piece for part in parts for piece in compact(part)]
    before = text[0] if text[0] in "#@." else ""
    if apostrophes.elisions:
        *elided, parts = without_elisions(parts, apostrophes.elisions)
        yield from (Word(tuple(word)) for word in elided)
    yield Word(tuple(parts), before, text[len(text.rstrip("+#")) :])


def without_elisions(parts: list[Part], elisions: frozenset[str]) -> list[list[Part]]:
    found = [parts[:1]]
    for part in parts[1:]:
        if part.joint == "'" and found[-1][-1].text in elisions:
            found.append([part._replace(joint="")])
        else:
            found[-1].append(part)
    return found


def _parts(text: str, start: int) -> list[Part]:
    parts: list[Part] = []
    end = -1
    for match in (ASCII_PART if text.isascii() else PART).finditer(text):
        begin = match.start()
        joint = text[end:begin] if end >= 0 else ""
        end = match.end()
        parts.append(Part(match.group(), start + begin, start + end, joint))
    return parts


def _without_apostrophes(parts: list[Part], apostrophes: Apostrophes) -> list[Part]:
    """The parts, those in one where an apostrophe or gershayim between them is inside a word."""
    found = parts[:1]
    for at, part in enumerate(parts[1:], 2):
        merged = _merged(found[-1], part, apostrophes, is_last=at == len(parts))
        if merged is None:
            found.append(part)
        else:
            found[-1] = merged
    return found


def _merged(last: Part, part: Part, apostrophes: Apostrophes, is_last: bool) -> Part | None:
    """Both parts as one, where an apostrophe or gershayim between them is inside a word."""
    if part.joint == '"':
        return Part(last.text + part.text, last.start, part.end, last.joint)
    if part.joint != "'":
        return None
    if part.text == "s" and is_last and apostrophes.drops_possessive:
        return last
    if (part.text in apostrophes.endings and is_last) or is_cyrillic(last.text[-1]):
        return Part(f"{last.text}'{part.text}", last.start, part.end, last.joint)
    return None


def is_cyrillic(letter: str) -> bool:
    return "\u0400" <= letter <= "\u052f"


def compact(part: Part) -> Iterator[Part]:
    """The letters and digits of a part apart: `500GB`, `SPZ007` and `python3` are codes of two, `H2O` and `mp3` one
    word."""
    if part.text.isalpha() or not HAS_DIGIT.search(part.text):
        yield part
        return
    pieces = COMPACT.findall(part.text)
    if not is_split(pieces):
        yield part
        return
    start, joint = part.start, part.joint
    for piece in pieces:
        yield Part(piece, start, start + len(piece), joint)
        start, joint = start + len(piece), ""


def is_split(pieces: list[str]) -> bool:
    if not 2 <= len(pieces) <= LONGEST_COMPACT:
        return False
    if len(pieces) == 2 and (pieces[1] in UNITS or pieces[0] == "v" or is_name(pieces[0])):
        return True
    return all(len(piece) > 1 for piece in pieces) and pieces[1] not in ORDINALS


def is_name(text: str) -> bool:
    return len(text) >= SHORTEST_NAME and text.isalpha()


def characters(run: str, start: int) -> Iterator[Part]:
    """The characters of a run, each with its marks."""
    if not MARK.search(run):
        yield from (Part(character, at, at + 1) for at, character in enumerate(run, start))
        return
    for match in CHARACTER.finditer(run):
        yield Part(match.group(), start + match.start(), start + match.end())
