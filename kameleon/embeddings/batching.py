"""Groups texts into slices, one a provider call, and adapts their size. Imports nothing of kameleon's."""

import re
from collections.abc import Iterator, Sequence
from threading import Lock

GROWS_AFTER = 20
"""Requests in a row that a server must answer in time before it is given more again; doubled with each time-out.
Chosen, not measured."""

TOKENS = re.compile(r"[!-~]{1,4}|[^\x00-\x7f\s]")


def slices(tokens: Sequence[int], *, texts: int, total: int | None = None) -> Iterator[list[int]]:
    """Positions in order, `texts` a slice at most and `total` tokens; a text over `total` is alone."""
    slice_: list[int] = []
    size = 0
    for position, count in enumerate(tokens):
        if slice_ and (len(slice_) >= texts or (total is not None and size + count > total)):
            yield slice_
            slice_, size = [], 0
        slice_.append(position)
        size += count
    if slice_:
        yield slice_


def padded_slices(tokens: Sequence[int], *, total: int) -> Iterator[list[int]]:
    """Positions by like length, longest first, each slice at most `total` tokens once padded to its longest text."""
    slice_: list[int] = []
    longest = 0
    for position in sorted(range(len(tokens)), key=lambda i: (-tokens[i], i)):
        longest = longest if slice_ else max(1, tokens[position])
        if slice_ and longest * (len(slice_) + 1) > total:
            yield slice_
            slice_, longest = [], max(1, tokens[position])
        slice_.append(position)
    if slice_:
        yield slice_


def halves(slice_: list[int]) -> tuple[list[int], list[int]]:
    middle = len(slice_) // 2
    return slice_[:middle], slice_[middle:]


class Limits:
    """How many texts a request may hold, `size`, and how many requests may run at a time, as far as a provider has
    shown it; kept as long as the process. A new provider is given one request at a time until it has taken a slice.

    What was refused for its size is not sent again: `size` goes to half, then halfway up to it. What timed out may have
    been a bad moment: after 40 answers in a row, 80 after the next time-out and so on, `concurrency` and then `size`
    grow back, up to what they were.
    """

    def __init__(self, size: int, concurrency: int) -> None:
        self.size: int = size
        self.concurrency: int = concurrency
        self.is_proven: bool = False
        self._most = size, concurrency
        self._taken = 0
        self._too_many: int | None = None
        self._answers = 0
        self._grows_after = GROWS_AFTER
        self._lock = Lock()

    def window(self, workers: int) -> int:
        """Requests at a time for a caller that would have `workers`."""
        return min(workers, self.concurrency) if self.is_proven else 1

    def failed(self) -> None:
        self.is_proven = False

    def taken(self, count: int, *, is_proof: bool) -> None:
        """Note a request of so many texts that was answered, no proof while refused texts are searched for."""
        with self._lock:
            self.is_proven = self.is_proven or is_proof
            self._taken = max(self._taken, count)
            if self._too_many is not None and count == self.size:
                self.size += (self._too_many - self.size) // 2
            self._answers += 1
            if self._answers >= self._grows_after:
                self._answers = 0
                self._grow()

    def _grow(self) -> None:
        size, concurrency = self._most
        if self.concurrency < concurrency:
            self.concurrency += 1
        elif self._too_many is None:
            self.size = min(size, 2 * self.size)

    def too_many(self, refused: int, taken: int) -> None:
        """Note that so many texts at once were refused, of which so many at once were taken."""
        with self._lock:
            self.is_proven = True
            self._too_many = min(refused, self._too_many or refused)
            self._taken = max(taken, self._taken) if self._taken < self._too_many else taken
            self.size = max(1, min(self.size, self._taken))

    def timed_out(self, count: int, running: int) -> None:
        """Note that so many texts at once took too long, with `running` requests in all."""
        with self._lock:
            self._answers = 0
            self._grows_after *= 2
            if running > 1:
                self.concurrency = max(1, running // 2)
            else:
                self.size = max(1, min(self.size, count // 2))
                self.concurrency = min(self.concurrency, 2)


def estimate_tokens(text: str) -> int:
    """Tokens of a text, estimated for servers: four ASCII characters a token, and every other character one.

    OpenAI's server estimates 0.25 a byte; a character outside ASCII has two to four bytes and often a token of its own.
    """
    if text.isascii():
        return len(text) // 4 + 1
    ascii_count = sum(map(str.isascii, text))
    return ascii_count // 4 + len(text) - ascii_count + 1


def estimate_spans(text: str) -> list[tuple[int, int]]:
    """Where the tokens of a text may be, rather too many than too few: up to four ASCII characters of a word, and every
    other character that is no white space."""
    return [found.span() for found in TOKENS.finditer(text)]
