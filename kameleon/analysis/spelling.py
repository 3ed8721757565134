"""Words as people write them, for completing what is typed and correcting it. Imports nothing of kameleon's."""

from collections.abc import Iterable
from unicodedata import category

CORRECTED_FROM, LONG, LONGEST = 4, 8, 40


def parted(text: str) -> tuple[str, str]:
    """What stands before a text's last word, and that word as it is so far, lower-case; empty after a space."""
    start = len(text)
    while start and is_letter(text[start - 1]):
        start -= 1
    return text[:start], text[start:].lower()


def is_letter(character: str) -> bool:
    """Whether a word may have it: a letter, a digit, or a mark of one."""
    return character.isalnum() or category(character) in ("Mn", "Mc")


def is_correctable(word: str) -> bool:
    """Whether it is 4 to 40 letters and their marks: nobody misspells a number."""
    is_long = CORRECTED_FROM <= len(word) <= LONGEST
    return is_long and all(is_letter(character) and not character.isnumeric() for character in word)


def most_errors(word: str) -> int:
    """How many letters may be wrong."""
    return 2 if len(word) >= LONG else 1


def ends(word: str) -> tuple[str, str]:
    """What a word begins and ends with: a wrong letter or two neighbours that changed places leave one of them whole,
    but in words of four."""
    size = max(2, (len(word) - 1) // 2)
    return word[:size], word[-size:]


def near(word: str, candidates: Iterable[str]) -> list[tuple[int, bool, str]]:
    """(distance, whether another letter is first, candidate) of those with no more errors, nearest first."""
    most, letters = most_errors(word), set(word)
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
