"""Corrections and completions of words."""

from hypothesis import given
from hypothesis import strategies as st

from kameleon.analysis.spelling import is_correctable, most_errors, near, parted


def plain_distance(left: str, right: str) -> int:
    rows = [[i + j if 0 in (i, j) else 0 for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            changed = rows[i - 1][j - 1] + (left[i - 1] != right[j - 1])
            rows[i][j] = min(changed, rows[i - 1][j] + 1, rows[i][j - 1] + 1)
            if i > 1 and j > 1 and left[i - 1] == right[j - 2] and left[i - 2] == right[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@given(st.text("abc", min_size=4, max_size=9), st.text("abc", min_size=1, max_size=9))
def test_the_near_are_those_of_few_errors(left: str, right: str) -> None:
    away = plain_distance(left, right)
    found = {each.form: each.distance for each in near(left, [right])}
    if 0 < away <= most_errors(left):
        assert found == {right: away}
    else:
        assert found == {} or (away == 2 and len(left) == len(right) in (6, 7))


def test_the_nearest_come_first_and_the_far_not_at_all() -> None:
    assert [other for *_, other in near("refnud", ["pefnud", "refuse", "refnud", "rebound", "refund"])] == [
        "refund",
        "pefnud",
    ]
    assert [other for *_, other in near("seperately", ["separately", "separatelyy", "desperately"])] == [
        "separately",
        "desperately",
        "separatelyy",
    ]


def test_a_letter_left_out_or_two_swapped_come_before_a_wrong_one() -> None:
    assert [other for *_, other in near("whel", ["when", "wheel", "whe"])] == ["wheel", "whe", "when"]
    assert [other for *_, other in near("whoel", ["wheel", "whole", "whorl"])] == ["whole", "wheel", "whorl"]
    assert [other for *_, other in near("court", ["count", "scourt", "curt"])] == ["scourt", "count", "curt"]


def test_two_wrong_letters_of_a_short_word_sound_like_the_right_ones() -> None:
    assert [other for *_, other in near("salery", ["celery", "sunday", "salve"])] == ["celery"]
    assert near("salry", ["celry"]) == []


def test_words_of_letters_and_their_marks_are_correctable() -> None:
    words = ["pol358", "हिन्दी", "naïve", "one", "refund", "z" * 41, "x²yz"]
    assert [word for word in words if is_correctable(word)] == ["हिन्दी", "naïve", "refund"]


def test_the_last_word_is_the_one_being_typed() -> None:
    assert parted("Refund Req") == ("Refund ", "req")
    assert parted("(हिन्दी") == ("(", "हिन्दी")
    assert parted("refund ") == ("refund ", "")
    assert parted("") == ("", "")
