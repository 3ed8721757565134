"""Where a text may be cut: at white space, between characters of scripts without spaces, before a sentence. Imports
this package alone."""

import re

from .characters import JOINER, composes
from .words import UNSPACED

LONGEST = 100
"""Bounds the characters in which a place to cut is looked for, so that a long word is cut. Chosen, not measured."""
SENTENCE_START = re.compile(r"(?:[.!?…][\"'”’)\]]*\s+|[。！？]+\s*|\n\s*)")
HANGUL = "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7ff"
WITHOUT_SPACES = re.compile(f"(?![{HANGUL}])[{UNSPACED}\u3001-\u3003\u3008-\u3020\uff01-\uff65]")
"""Korean has spaces between words; the punctuation of the other scripts has none beside it."""
FLAGS = re.compile("[\U0001f1e6-\U0001f1ff]")


def is_whole(text: str, at: int) -> bool:
    """Whether no character with its marks is cut in two before this place."""
    if not 0 < at < len(text):
        return True
    before, after = text[at - 1], text[at]
    return not (composes(after) or before == JOINER or (FLAGS.match(before) and FLAGS.match(after)))


def is_word_end(text: str, at: int) -> bool:
    """Whether no word is cut in two before this place."""
    if not 0 < at < len(text):
        return True
    before, after = text[at - 1], text[at]
    is_between = before.isspace() or after.isspace() or WITHOUT_SPACES.match(before) or WITHOUT_SPACES.match(after)
    return bool(is_between) and is_whole(text, at)


def is_part_end(text: str, at: int) -> bool:
    """Whether no letters or digits are parted by a cut before this place."""
    return is_whole(text, at) and not (text[at - 1].isalnum() and text[at].isalnum())


def cut_after(text: str, at: int, least: int) -> int:
    """The last place up to `at`, and from `least` on, where a text may end: after a word; where there is no space,
    beside what is no letter; within a long word, after a character."""
    if at >= len(text):
        return len(text)
    places = range(at, max(0, least - 1, at - LONGEST), -1)
    for may_end in (is_word_end, is_part_end, is_whole):
        for end in places:
            if may_end(text, end):
                return end
    return at


def cut_before(text: str, at: int, most: int) -> int:
    """The first place from `at` on, and up to `most`, where a text may begin; `most` where there is none."""
    return next((start for start in range(max(0, at), most + 1) if is_word_end(text, start)), most)


def sentence_starts(text: str, start: int, end: int) -> list[int]:
    """Where in a part of a text, its end included, sentences and lines begin."""
    starts = [start + match.end() for match in SENTENCE_START.finditer(text[start:end])]
    return [0, *starts] if start == 0 else starts
