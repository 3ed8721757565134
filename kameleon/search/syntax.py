"""What a query says beside its words: `"exact phrase"`, `-word`, `prefix*`, `field:word`. All else is plain text.

An operator stands at the beginning of a word, or for a prefix at its end: `foo-bar`, `-5` and a quote that nothing
closes are plain.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from unicodedata import category

MAX_OPERATORS = 32
MAX_WORDS = 16
MAX_CHARACTERS = 1_000
MAX_QUERY = 50_000
MIN_PREFIX = 2

QUOTE = '"“”'
SYNTAX = re.compile(
    rf"(?<!\S)-(?:[{QUOTE}](?P<no_phrase>[^{QUOTE}]*)[{QUOTE}]|(?P<no_word>[^\W\d_][^\s{QUOTE}]*)(?!\S))"
    rf"|(?<!\S)(?P<field>[^\W\d]\w*):(?:[{QUOTE}](?P<said>[^{QUOTE}]*)[{QUOTE}]|(?P<word>[^\s{QUOTE}]+)(?!\S))"
    rf"|(?<!\S)(?P<prefix>[^\s*{QUOTE}]{{{MIN_PREFIX},}})\*(?!\S)"
    rf"|(?<![0-9A-Za-z])[{QUOTE}](?P<phrase>[^{QUOTE}]*)[{QUOTE}]"
)
NAMES_A_FIELD = re.compile(rf"(?<!\S)[^\W\d]\w*:[\w{QUOTE}]")
QUOTED = re.compile(rf"(?<!\S)-?[{QUOTE}][^{QUOTE}]*[{QUOTE}](?!\w)")
LETTER = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Asked:
    """`text` is what ranks and is embedded: all words but the excluded, without operators. A record must hold each of
    `phrases`, none of `excluded`, and each word of `fields` in its field; `prefixes` are completed, and not required.
    """

    text: str
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def exact(self) -> str:
        """The words that were asked as they are."""
        return " ".join([*self.phrases, *self.prefixes, *(word for _, word in self.fields)])


def may_name_field(text: str) -> bool:
    return ":" in text and NAMES_A_FIELD.search(text) is not None


def parse(text: str, fields: Collection[str] = ()) -> Asked:
    """Never raises. The first 32 operators count; what has more than 16 words outside of quotes, or over 50,000
    characters, is somebody's text, and plain."""
    if is_text(text):
        return Asked(text)
    phrases: dict[str, None] = {}
    excluded: dict[str, None] = {}
    prefixes: dict[str, None] = {}
    said: dict[tuple[str, str], None] = {}
    kept: list[str] = []
    end = operators = 0
    for found in SYNTAX.finditer(text):
        if operators == MAX_OPERATORS:
            break
        words = found["no_phrase"] or found["no_word"] or found["said"] or found["word"] or found["phrase"] or ""
        if found["prefix"]:
            words = found["prefix"]
            if not is_word(words):
                continue
            prefixes[words] = None
        elif len(words) > MAX_CHARACTERS or not LETTER.search(words):
            continue
        elif found["field"]:
            if found["field"] not in fields:
                continue
            said[found["field"], words.rstrip("*")] = None
        elif found["phrase"]:
            phrases[words] = None
        else:
            excluded[words] = None
            words = ""
        operators += 1
        kept += (text[end : found.start()], words)
        end = found.end()
    rest = "".join([*kept, text[end:]])
    if excluded and not LETTER.search(rest):
        rest = ""
    return Asked(rest, tuple(phrases), tuple(excluded), tuple(prefixes), tuple(said))


def is_text(text: str) -> bool:
    """Whether operators in it are none."""
    return len(text) > MAX_QUERY or len(QUOTED.sub(" ", text).split(maxsplit=MAX_WORDS)) > MAX_WORDS


def is_word(text: str) -> bool:
    """Whether it is letters alone, two at least, and their marks."""
    letters = sum(character.isalpha() for character in text)
    return letters >= MIN_PREFIX and all(c.isalpha() or category(c) in ("Mn", "Mc") for c in text)
