"""Corrections and completions of words."""

from hypothesis import given
from hypothesis import strategies as st

from kameleon.analysis.spelling import distance, near, parted, words_of


def plain_distance(left: str, right: str) -> int:
    rows = [[i + j if 0 in (i, j) else 0 for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            changed = rows[i - 1][j - 1] + (left[i - 1] != right[j - 1])
            rows[i][j] = min(changed, rows[i - 1][j] + 1, rows[i][j - 1] + 1)
            if i > 1 and j > 1 and left[i - 1] == right[j - 2] and left[i - 2] == right[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@given(st.text("abc", max_size=9), st.text("abc", max_size=9), st.integers(1, 2))
def test_the_band_changes_no_distance_within_it(left: str, right: str, most: int) -> None:
    assert distance(left, right, most) == min(plain_distance(left, right), most + 1)


def test_the_nearest_come_first_and_the_far_not_at_all() -> None:
    assert near("refnud", ["refund", "refuse", "refnud", "rebound", "pefnud"]) == [
        (1, False, "refund"),
        (1, True, "pefnud"),
    ]
    assert [other for *_, other in near("seperately", ["separately", "separatelyy", "desperately"])] == [
        "separately",
        "separatelyy",
        "desperately",
    ]


def test_words_are_letters_and_their_marks() -> None:
    tokens = "“don’t” pol-358 हिन्दी, naïve_one 全文検索 x2y ab " + "z" * 41
    assert [word for token in tokens.split() for word in words_of(token)] == ["don", "pol", "हिन्दी", "naïve", "one"]


def test_the_last_word_is_the_one_being_typed() -> None:
    assert parted("Refund Req") == ("Refund ", "req")
    assert parted("(हिन्दी") == ("(", "हिन्दी")
    assert parted("refund ") == ("refund ", "")
    assert parted("") == ("", "")
