"""Words as people write them, for completing what is typed and forgiving how: those of a text, and which are near."""

from collections.abc import Iterable, Iterator
from unicodedata import category

from ..content import CJK_RUN

SHORTEST, LONGEST = 3, 40
CORRECTED_FROM, LONG = 4, 8
AROUND = ".,;:!?\"'()[]"
LAST = "\U0010ffff"


def words_of(token: str) -> Iterator[str]:
    """The words of a lower-case token that are worth keeping: letters and their marks alone, 3 to 40 of them. Nobody
    misspells a number, and each Chinese, Japanese or Korean character is a term of its own."""
    bare = token.strip(AROUND)
    if is_plain(bare):
        yield bare
        return
    mask = "".join(character if is_letter(character) else " " for character in token)
    for word in mask.split():
        if SHORTEST <= len(word) <= LONGEST and is_kept(word):
            yield word


def parted(text: str) -> tuple[str, str]:
    """What stands before a text's last word, and that word as it is so far, lower-case; empty after a space."""
    start = len(text)
    while start and is_letter(text[start - 1]):
        start -= 1
    return text[:start], text[start:].lower()


def is_plain(token: str) -> bool:
    """Whether it is one such word, of ASCII letters."""
    return token.isascii() and token.isalpha() and SHORTEST <= len(token) <= LONGEST


def is_letter(character: str) -> bool:
    """Whether a word may have it; digits are parted from words below."""
    return character.isalnum() or category(character) in ("Mn", "Mc")


def is_kept(word: str) -> bool:
    return (
        word[0].isalpha()
        and not any(character.isnumeric() for character in word)
        and (word.isascii() or not CJK_RUN.search(word))
    )


def is_correctable(word: str) -> bool:
    return CORRECTED_FROM <= len(word) <= LONGEST and is_kept(word)


def reach(word: str) -> int:
    """How many letters may be wrong."""
    return 2 if len(word) >= LONG else 1


def ends(word: str) -> tuple[str, str]:
    """What a word begins and ends with: a wrong letter or two neighbours that changed places leave one of them whole,
    but in words of four."""
    size = max(2, (len(word) - 1) // 2)
    return word[:size], word[-size:]


def near(word: str, candidates: Iterable[str]) -> list[tuple[int, bool, str]]:
    """(distance, whether another letter is first, candidate) of those within reach, nearest first."""
    most, letters = reach(word), set(word)
    found = []
    for other in candidates:
        if abs(len(other) - len(word)) <= most and len(letters.symmetric_difference(other)) <= 2 * most:
            away = distance(word, other, most)
            if 0 < away <= most:
                found.append((away, other[0] != word[0], other))
    return sorted(found)


def distance(left: str, right: str, most: int) -> int:
    """Letters to add, drop, change or swap with a neighbour; `most` + 1 for more than `most`."""
    above: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, above = above, row
        row = [i] + [most + 1] * len(right)
        for j in range(max(1, i - most), min(len(right), i + most) + 1):
            b = right[j - 1]
            best = min(above[j - 1] + (a != b), above[j] + 1, row[j - 1] + 1)
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                best = min(best, before[j - 2] + 1)
            row[j] = best
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)
