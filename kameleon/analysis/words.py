"""Words and codes in a normalised text: where they begin and end, and the parts that codes have. Imports only
`characters`.

A code is a run of parts with joints between: `POL-358-A`, `src/App.java`, `jane.roe@example.org`, `v1.2.3`, `AT&T`,
`12:30`, `11.83`; also `500GB`, `SPZ007`, and what has a symbol before or after: `C++`, `#12345`, `.NET`, `@jane`.
Chinese, Japanese and Korean, Thai, Lao, Khmer and Burmese are runs of characters, each with its marks.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple
from unicodedata import category

from .characters import EMOJI, IS_EMOJI, JOINED_BACKWARDS

UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edf\u1000-\u109f\u1100-\u11ff\u1780-\u17df\u1950-\u19df\u1a20-\u1aad"
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u302a-\u302f\u3031-\u3035\u3038-\u30fa\u30fc-\u312f\u3131-\u318e"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c\ua9e0-\ua9fe\uaa60-\uaadf\uac00-\ud7ff"
    "\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
PUNCTUATION = r"\x00-/:-@\[-`{-\x7f"
LETTER = f"[^{PUNCTUATION}{UNSPACED}{EMOJI}]"
JOINT = rf"(?:::|[-'./:@&+_^#]|(?<=[0-9]),(?=[0-9])|(?<=[א-ת])\"(?=[א-ת]))(?={LETTER})"
OPENS = r"(?<![^ (\[{\"',;:/<>=|])"
TOKEN = re.compile(
    rf"(?P<code>(?:{OPENS}(?:[#@]|\.(?=[^\W\d])))?{LETTER}+(?:{JOINT}{LETTER}+)*"
    rf"(?:\+\+?(?![+]|{LETTER})|\+\+(?=[0-9])|\#(?!{LETTER}))?)"
    rf"|(?P<run>[{UNSPACED}]+)|(?P<emoji>[\U0001f1e6-\U0001f1ff]{{2}}|[{EMOJI}])"
)
PART = re.compile(f"{LETTER}+")
COMPACT = re.compile(r"[0-9]+|[^0-9]+")
HAS_DIGIT = re.compile(r"[0-9]")
ORDINALS = frozenset(("st", "nd", "rd", "th", "er", "ème", "eme"))
UNITS = frozenset(
    """
    b kb mb gb tb pb kib mib gib tib bit kbit mbit gbit kbps mbps gbps bps
    g kg mg µg μg ug ng t lb lbs oz m km cm mm nm µm μm um in inch ft yd mi mile miles l ml dl cl gal pt px em rem dpi ppi
    hz khz mhz ghz thz w kw mw gw kwh wh mwh v kv mv a ma mah ah k ohm kohm db dba lm lx cd
    c f kcal cal j kj mj pa hpa kpa mpa bar psi rpm fps mph kmh kn nm ms ns us µs μs s sec min h hr hrs mol mmol
    mm2 cm2 m2 km2 mm3 cm3 m3 usd eur gbp chf mp k x
    """.split()
)
# Units that are no words of their own, so that `500 GB` is read as `500GB`.
SPACED_UNITS = UNITS - frozenset("a b c f h j k n s t x in um us ma pa em gal mp mi ms pt miles mile bar inch".split())
LONGEST_COMPACT = 4


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


class Apostrophes(NamedTuple):
    """What a language's apostrophes do: endings that make one word with what is before, and beginnings that are words
    of their own."""

    endings: frozenset[str] = frozenset()
    elisions: frozenset[str] = frozenset()
    drops_possessive: bool = False


def words(text: str, apostrophes: Apostrophes) -> Iterator[Word]:
    """The words of a normalised text, in order."""
    for match in TOKEN.finditer(text):
        if match.lastgroup == "code":
            yield code(match.group(), match.start(), apostrophes)
        elif match.lastgroup == "run":
            yield Word(tuple(characters(match.group(), match.start())), is_run=True)
        else:
            yield Word((Part(match.group(), *match.span()),))


def code(text: str, start: int, apostrophes: Apostrophes) -> Word:
    parts = [*_parts(text, start, apostrophes)]
    stem = text.rstrip("+#")
    before = text[0] if text[0] in "#@." else ""
    return Word(tuple(parts), before, text[len(stem) :])


def _parts(text: str, start: int, apostrophes: Apostrophes) -> Iterator[Part]:
    last: Part | None = None
    end = -1
    for match in PART.finditer(text):
        joint = text[end : match.start()] if end >= 0 else ""
        end = match.end()
        part = Part(match.group(), start + match.start(), start + end, joint)
        merged = _merged(last, part, apostrophes, is_last=not PART.search(text, end)) if last else None
        if merged is not None:
            last = merged
            continue
        if last:
            yield from compact(last)
        last = part
    if last:
        yield from compact(last)


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
    """The letters and digits of a part apart: `500GB` and `SPZ007` are codes of two, `H2O` and `mp3` one word."""
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
    if len(pieces) == 2 and (pieces[1] in UNITS or pieces[0] == "v"):
        return True
    return all(len(piece) > 1 for piece in pieces) and pieces[1] not in ORDINALS


def characters(run: str, start: int) -> Iterator[Part]:
    """The characters of a run, each with its marks."""
    begin = 0
    for place in range(1, len(run) + 1):
        if place == len(run) or not is_attached(run[place]):
            yield Part(run[begin:place], start + begin, start + place)
            begin = place


def is_attached(character: str) -> bool:
    return category(character)[0] == "M" or JOINED_BACKWARDS.match(character) is not None


def is_emoji(text: str) -> bool:
    return IS_EMOJI.match(text) is not None
