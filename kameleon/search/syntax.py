"""What a query has beside its words: `"exact phrase"`, `-word`, `prefix*`, `field:word`. All else is plain text.
Imports nothing of kameleon's.

An operator is at the beginning of a word, or for a prefix at its end: `foo-bar`, `-5`, `*.py` and a quote that nothing
closes are plain. What people paste is not taken for operators:
- `-word` excludes where it is three letters or more and no plain word both precedes and follows it, as in `jaguar -car`
  and `-car jaguar`. A flag stands between words (`tar -xzf archive`, `gcc -Wall error`), or after such a one, or is
  short (`ls -la`), has a digit or a symbol in it (`-O2`, `-std=c++11`) or a capital inside (`-DskipTests`). `-C++`,
  `-C#` and `-"a phrase"` do exclude, and so do, after a plain word, codes that begin with two letters and have joints:
  `-POL-358`, `-example.org`.
- `field:word` needs the name of a searched field, so `re: invoice`, `10:30` and `https://example.com` are plain.
- `prefix*` begins with a letter or digit, or one of `#.@` before it, and has two of these at least: `tele*`, `9030*`,
  `POL-35*`.
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
    rf"|(?<!\S)(?P<field>[^\W\d]\w*):(?:[{QUOTE}](?P<said>[^{QUOTE}]*)[{QUOTE}]|(?P<word>(?!//)[^\s{QUOTE}]+)(?!\S))"
    rf"|(?<!\S)(?P<prefix>[#.@]?[^\W_][^\s*{QUOTE}]+)\*(?!\S)"
    rf"|(?<![0-9A-Za-z])[{QUOTE}](?P<phrase>[^{QUOTE}]*)[{QUOTE}]"
)
NAMES_A_FIELD = re.compile(rf"(?<!\S)[^\W\d]\w*:[\w#@.{QUOTE}]")
QUOTED = re.compile(rf"(?<!\S)-?[{QUOTE}][^{QUOTE}]*[{QUOTE}](?!\w)")
LETTER = re.compile(r"[^\W_]")
# Up to the first word after an exclusion that is none itself.
AFTER_EXCLUSIONS = re.compile(rf"(?:\s+-(?:[{QUOTE}][^{QUOTE}]*[{QUOTE}]|\S+))*+\s+(?=\S)")
CAPITAL_INSIDE = re.compile(r"[a-z][A-Z]")
CODE = re.compile(r"[^\W\d_]{2,}(?:[-.&/@_]+\w+)+")
LONGEST_FLAG = 2
INSIDE = "-'’"
SYMBOLS_AFTER = "+#"


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
    end = operators = looked = 0
    has_plain = has_flags = False
    for found in SYNTAX.finditer(text):
        if operators == MAX_OPERATORS:
            break
        words = operand(found)
        has_plain = has_plain or LETTER.search(text, looked, found.start()) is not None
        looked = found.start()
        if len(words) > MAX_CHARACTERS or not is_operator(found, words, fields):
            continue
        if found["no_word"]:
            has_flags = has_flags or (has_plain and is_followed(text, found.end(), fields))
            if has_flags or not is_exclusion(words, has_plain):
                continue
        if found["prefix"]:
            prefixes[words] = None
        elif found["field"]:
            said[found["field"], words.rstrip("*")] = None
        elif found["phrase"]:
            phrases[words] = None
        else:
            excluded[words] = None
            words = ""
        operators += 1
        kept += (text[end : found.start()], words)
        end = looked = found.end()
    rest = "".join([*kept, text[end:]])
    if excluded and not LETTER.search(rest):
        rest = ""
    return Asked(rest, tuple(phrases), tuple(excluded), tuple(prefixes), tuple(said))


def operand(found: re.Match[str]) -> str:
    groups = ("no_phrase", "no_word", "said", "word", "prefix", "phrase")
    return next((words for group in groups if (words := found[group])), "")


def is_operator(found: re.Match[str], words: str, fields: Collection[str]) -> bool:
    if found["prefix"]:
        return len(LETTER.findall(words)) >= MIN_PREFIX
    return LETTER.search(words) is not None and (not found["field"] or found["field"] in fields)


def is_exclusion(word: str, has_plain: bool) -> bool:
    """Whether `-word` is none of a command's flags."""
    letters = word.rstrip(SYMBOLS_AFTER)
    is_short = word == letters and word.isascii() and len(word) <= LONGEST_FLAG
    is_one = is_word(letters) or (has_plain and CODE.fullmatch(word) is not None)
    return is_one and not (is_short or CAPITAL_INSIDE.search(word))


def is_followed(text: str, end: int, fields: Collection[str]) -> bool:
    """Whether a plain word is next, exclusions aside."""
    after = AFTER_EXCLUSIONS.match(text, end)
    if after is None:
        return False
    operator = SYNTAX.match(text, after.end())
    if operator and is_operator(operator, operand(operator), fields):
        return bool(operator["no_word"])
    return LETTER.search(text[after.end() :].split(maxsplit=1)[0]) is not None


def is_text(text: str) -> bool:
    """Whether operators in it are none."""
    return len(text) > MAX_QUERY or len(QUOTED.sub(" ", text).split(maxsplit=MAX_WORDS)) > MAX_WORDS


def is_word(text: str) -> bool:
    """Whether it is letters and their marks alone, or with hyphens and apostrophes between."""
    return all(c.isalpha() or c in INSIDE or category(c) in ("Mn", "Mc") for c in text)
