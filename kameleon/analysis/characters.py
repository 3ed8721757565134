"""Characters as readers take them: one form of each, and where it was in the text. Imports nothing of kameleon's.

Two steps, so that a stemmer still reads accents and a suggestion still shows them:
`Characters` is NFKC, case folding and what no reader sees (soft hyphens, joiners, variation selectors, vowel marks of
Arabic and Hebrew, tatweel), every digit as ASCII and one kind of apostrophe and hyphen; `Folding` then takes away the
marks that the script's readers ignore (`é`, `ё`, `ά`, hamza on alef, nukta) and strokes, ligatures and sharp s.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from unicodedata import category, combining, digit, is_normalized, name, normalize

KEPT_CHARACTERS = 20_000  # of a table that is filled as characters are met
SEPARATOR = " "
JOINTS = "-'./:@&+_^#,\""
APOSTROPHES = "’‘‛ʼʻʹʽ′`´＇\u05f3\ua78c"
HYPHENS = "\u2010\u2011\u2012\u2013\u2212\u05be"
# Letters of their own beside NFKC's forms; symbols that NFKC would glue to the word before them.
SPECIAL = {
    **dict.fromkeys(APOSTROPHES, "'"),
    **dict.fromkeys(HYPHENS, "-"),
    **dict.fromkeys("\\\u2044", "/"),
    **dict.fromkeys("”“\u05f4", '"'),
    "ẞ": "ß",
    "İ": "i",
    "™": " tm",
    "℠": " sm",
    "\u0640": "",
}
OF_LANGUAGE: Mapping[str, Mapping[str, str]] = {"turkish": {"I": "ı", "İ": "i"}, "catalan": {"·": ""}}
KEPT_CASE = "ßς"  # casefold() changes them, and suggestions show them

# Marks that readers of the script ignore where they did not make one letter with their base (NFC).
IGNORED_MARKS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0711\u0730-\u074a"
    "\u08ca-\u08ff\u0951-\u0954\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U0001f3fb-\U0001f3ff\U000e0000-\U000e0fff]"
)
EMOJI = "\u231a-\u23ff\u25a0-\u27bf\u2934\u2935\u2b00-\u2bff\U0001f000-\U0001faff"
IS_EMOJI = re.compile(f"[{EMOJI}]")
JOINED_BACKWARDS = re.compile("[\u1161-\u1175\u11a8-\u11c2\U0001f3fb-\U0001f3ff]")  # of Hangul, and skin tones
JOINER = "\u200d"

LETTERS = str.maketrans("øđðłħŧıŋĸςёѐѝأإآٱىیکةँऩऱऴ", "oddlhtinkσееиااااييكهंनरळ") | str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "þ": "th", "\u093c": ""}
)
WITH_STROKE = re.compile(r"LATIN SMALL LETTER ([A-Z]) WITH ")
FOLDED_SCRIPTS = ("LATIN ", "GREEK ")


class Characters(dict[int, str]):
    """A table for `str.translate` from one character to its form, filled as characters are met. `uneven` are those met
    whose form is not one character or depends on what is before, `attached` those that may be composed with it."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self.uneven: set[str] = set()
        self.attached: set[str] = set()
        self._special = {**SPECIAL, **OF_LANGUAGE.get(language, {})}

    def __missing__(self, code: int) -> str:
        character = chr(code)
        form = self._form(character)
        if len(self) < KEPT_CHARACTERS:
            self[code] = form
        if len(form) != 1 or is_superscript(character):
            self.uneven.add(character)
        if composes(character):
            self.attached.add(character)
        return form

    def _form(self, character: str) -> str:
        special = self._special.get(character)
        if special is not None:
            return special
        if category(character) == "No":
            form = normalize("NFKC", character).replace("\u2044", "/")
            return f" {form}" if "/" in form else "".join(map(self._simple, form))
        return "".join(map(self._simple, self._lower(normalize("NFKC", character))))

    def _lower(self, text: str) -> str:
        folded = "".join(self._special.get(part) or (part if part in KEPT_CASE else part.casefold()) for part in text)
        return normalize("NFKC", folded)

    def cluster(self, text: str) -> str:
        """The form of a character and its marks."""
        if len(text) == 1:
            return self[ord(text)]
        text = "".join(self._special.get(part, part) for part in text)
        return "".join(map(self._simple, self._lower(normalize("NFKC", text))))

    @staticmethod
    def _simple(character: str) -> str:
        """What stays of a character in its folded form."""
        kind = category(character)
        if kind == "Nd":
            return str(digit(character))
        if kind == "Cf" or INVISIBLE.match(character) or IGNORED_MARKS.match(character):
            return ""
        if kind[0] in "LNM":
            return SPECIAL.get(character, character)
        if character in JOINTS or (kind == "So" and IS_EMOJI.match(character)):
            return character
        return SPECIAL.get(character, SEPARATOR)


class Folding(dict[int, str]):
    """A table for `str.translate` from the letters that `Characters` leaves to those that words are compared by.
    `kept` are letters of the language's alphabet (å is no a in Swedish)."""

    def __init__(self, kept: Iterable[str] = ()) -> None:
        super().__init__()
        self._kept = frozenset(kept)

    def __missing__(self, code: int) -> str:
        letter = self._fold(chr(code))
        if len(self) < KEPT_CHARACTERS:
            self[code] = letter
        return letter

    def _fold(self, letter: str) -> str:
        if letter.isascii() or letter in self._kept:
            return letter
        if ord(letter) in LETTERS:
            return letter.translate(LETTERS)
        title = name(letter, "")
        parts = normalize("NFD", letter)
        if len(parts) > 1 and title.startswith(FOLDED_SCRIPTS):
            return "".join(map(self._fold, normalize("NFC", parts[:-1])))
        stroke = WITH_STROKE.match(title)
        return stroke[1].lower() if stroke else letter


class Places:
    """Normalises chunks of text and finds where each character of the result was."""

    def __init__(self, characters: Characters) -> None:
        self._characters = characters
        self._reads_ascii = characters[ord("I")] != "i"

    def normalise(self, text: str) -> tuple[str, list[tuple[int, int]] | None]:
        """The text's form and, unless each of its characters is where it was, where in `text` each comes from."""
        if text.isascii():
            return text.translate(self._characters) if self._reads_ascii else text.lower().replace("\\", "/"), None
        if is_normalized("NFC", text):
            table = self._characters
            form = text.translate(table)
            is_composed = table.attached.isdisjoint(text) or is_normalized("NFKC", text)
            if is_composed and table.uneven.isdisjoint(text):
                return form, None
        return self._clusters(text)

    def _clusters(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        forms: list[str] = []
        places: list[tuple[int, int]] = []
        is_raised = False
        start = 0
        for end in boundaries(text):
            cluster = text[start:end]
            form = self._characters.cluster(cluster)
            was_raised, is_raised = is_raised, is_superscript(cluster)
            if is_raised and not was_raised and forms and forms[-1][-1:].isalnum():
                form = f"^{form}"
            forms.append(form)
            places += [(start, end)] * len(form)
            start = end
        return "".join(forms), places


def boundaries(text: str) -> Iterable[int]:
    """The ends of a text's clusters: what could be composed with what is before it is in its cluster, and so is an
    emoji that is joined to one."""
    for place, character in enumerate(text[1:], 1):
        is_joined = text[place - 1] == JOINER and IS_EMOJI.match(character)
        if not (is_joined or composes(character)):
            yield place
    yield len(text)


@lru_cache(KEPT_CHARACTERS)
def composes(character: str) -> bool:
    if character.isascii():
        return False
    if character == JOINER:
        return True
    first = normalize("NFKD", character)[0]
    return combining(first) > 0 or category(first)[0] == "M" or JOINED_BACKWARDS.match(first) is not None


def is_superscript(character: str) -> bool:
    return character in "²³¹⁰" or "\u2074" <= character <= "\u2079"
