"""Slices of a provider's limits, estimates of tokens, and the delays between retries."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon.embeddings.batching import estimate_tokens, halves, slices
from kameleon.embeddings.retry import Pace, backoff_s, retry_after_s


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 9), st.none() | st.integers(1, 120))
def test_slices_hold_every_text_once_in_order_within_both_limits(
    tokens: list[int], texts: int, total: int | None
) -> None:
    made = list(slices(tokens, texts=texts, total=total))
    assert [position for slice_ in made for position in slice_] == list(range(len(tokens)))
    for slice_ in made:
        assert len(slice_) <= texts
        assert len(slice_) == 1 or total is None or sum(tokens[i] for i in slice_) <= total


@given(st.lists(st.integers(), min_size=2, max_size=50))
def test_halves_hold_every_text_once(slice_: list[int]) -> None:
    left, right = halves(slice_)
    assert left + right == slice_
    assert left
    assert right


@pytest.mark.parametrize(("text", "tokens"), [("", 1), ("abcd" * 100, 101), ("全文検索", 5), ("über", 2)])
def test_tokens_are_estimated(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_back_off_doubles_up_to_eight_seconds_and_is_jittered_fully() -> None:
    assert [backoff_s(attempt, 0.5, lambda: 1.0) for attempt in (1, 2, 3, 9)] == [0.5, 1.0, 2.0, 8.0]
    assert backoff_s(3, 0.5, lambda: 0.0) == 0.0


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


def test_one_that_must_wait_makes_the_others_wait() -> None:
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    pace = Pace(sleep, clock)
    pace.wait()
    pace.slow_down(5)
    pace.slow_down(2)
    pace.wait()
    pace.wait()
    assert slept == [5.0]
