"""The languages that the analyser knows: Snowball's, and `simple` without stems and stop words. Imports this package
alone."""

from typing import NamedTuple

from .words import Apostrophes

SIMPLE = "simple"
NAMES = frozenset(
    (
        *("arabic", "armenian", "basque", "catalan", "czech", "danish", "dutch", "english", "esperanto", "estonian"),
        *("finnish", "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian"),
        *("nepali", "norwegian", "persian", "polish", "portuguese", "romanian", "russian", "serbian", "sesotho"),
        *("spanish", "swedish", "tamil", "turkish", "yiddish", SIMPLE),
    )
)
# Letters with a mark that are letters of their own, as CLDR's collations have them, where people do not write
# the bare letter instead.
KEPT_LETTERS = {
    "danish": "æøå",
    "norwegian": "æøå",
    "swedish": "åäö",
    "finnish": "åäö",
    "estonian": "õäöü",
    "hungarian": "öü",
    "turkish": "çğıöşü",
    "spanish": "ñ",
    "basque": "ñ",
}
# Their stemmers know no accents, or are meant to get none.
FOLDED_FIRST = frozenset(("dutch", "english", "greek", "indonesian", "sesotho", "simple"))
ENGLISH = Apostrophes(endings=frozenset(("d", "ll", "m", "re", "t", "ve")), drops_possessive=True)
ELISIONS = {
    "french": "c d j l m n s t qu jusqu lorsqu puisqu quoiqu",
    "italian": "c l all dall dell nell sull coll pell gl agl dagl degl negl sugl un m t s v d",
    "catalan": "d l m n s t",
    "irish": "b d m",
}


class Rules(NamedTuple):
    """How one language is read."""

    kept_letters: str
    is_folded_first: bool
    apostrophes: Apostrophes


def rules(language: str) -> Rules:
    if language == "english":
        apostrophes = ENGLISH
    else:
        elisions = frozenset(ELISIONS.get(language, "").split())
        apostrophes = Apostrophes(elisions=elisions, drops_possessive=language == SIMPLE)
    return Rules(KEPT_LETTERS.get(language, ""), language in FOLDED_FIRST, apostrophes)
