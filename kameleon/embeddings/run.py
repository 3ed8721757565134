"""One call of the embedding service: which request is sent next, and what an answer means for each text.

Whether a refusal is of one text or of all is decided by trying. A refused slice is halved until a text stands alone; it
is a *suspect* until the provider takes another text in a later request, if need be a short one of our own, the probe.
Then it is refused. Where the probe is refused, too, all are: the run ends, and what was not embedded is left pending.
So is a time-out, a 429 or a 403 that follows one text; an error of the server's that does is counted by its caller.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ProviderError, ProviderRefused, ProviderUnavailable, TextRefused
from .batching import halves
from .checking import Unexplained, check_all, provider_error
from .provider import Vector
from .retry import LONGEST_WAIT_S, backoff_s

if TYPE_CHECKING:
    from .service import EmbeddingService

log = logging.getLogger("kameleon.embeddings")

PROBE = "A short text."
FEW_REFUSALS, MANY_REFUSALS = 2, 16
"""Refusals in a row after which the probe is sent, one where the call has seen no text taken yet; doubled each time
that the probe is taken, up to the second."""
SHORT_TEXT = 400
"""Characters that every model reads: a shorter text is not refused for its length."""
RATE_LIMITS = (408, 409, 425, 429)

Outcome = Vector | ProviderError


class Piece(NamedTuple):
    """Of a text that was too long, in characters."""

    start: int
    end: int
    vector: Vector


@dataclass(eq=False)
class Slice:
    """Texts of one request. `sent` orders requests and refusals; `running` requests ran when it was sent, it included.
    `refused` is the slice that it is a half of, or one that it was cut from."""

    positions: list[int]
    refused: "Slice | None" = None
    is_half: bool = False
    sent: int = 0
    running: int = 1
    halves_taken: int = 0
    halves_refused: int = 0

    def note_refusal(self) -> bool:
        """Whether that says more than the refusal of the slice it is part of: where both halves are refused."""
        if self.refused is None:
            return True
        self.refused.halves_refused += self.is_half
        return self.refused.halves_refused == 2


@dataclass
class Suspect:
    position: int
    error: ProviderError
    refused_at: int


@dataclass
class Split:
    """A text that is sent in two halves, from `middle` on the second; of `whole` if it is itself such a half."""

    middle: int
    first: int
    second: int


@dataclass
class Counts:
    requests: int = 0
    retries: int = 0
    fallbacks: int = 0
    probes: int = 0
    busy_seconds: float = 0.0
    requesting_seconds: float = 0.0


class Run:
    """Requests may run on many threads; outcomes are written on the caller's alone, and given to `landed`."""

    def __init__(self, service: "EmbeddingService", call: Callable[[Any], Any], workers: int = 1) -> None:
        self.service = service
        self.workers = workers
        self.provider = service.provider
        self.call = call
        self.stopped: ProviderError | None = None
        self.counts = Counts()
        self._few = 1
        self._refusals = 0
        self._clock = count(1)
        self._last_refusal = self._slowed_at = 0
        self._is_up = False
        self._quickest_s = self._waited_s = 0.0
        self._busy_until = 0.0
        self._lock = Lock()
        self._recovering = Lock()

    def process(
        self,
        texts: Sequence[str],
        slices: Sequence[list[int]],
        landed: Callable[[Mapping[str, Outcome]], None] = lambda _outcomes: None,
    ) -> dict[str, Outcome]:
        """Each text with its vector or error, and the pieces of those that are too long. Requests every slice, and
        parts of those that are refused, until none is left or the run ends."""
        started = time.perf_counter()
        self._texts, self._count, self._landed = list(texts), len(texts), landed
        self._outcomes: dict[int, Outcome] = {}
        self._suspects: list[Suspect] = []
        self._splits: dict[int, Split] = {}
        self._wholes: dict[int, int] = {}
        self._waiting = deque(Slice(positions) for positions in slices)
        while self._waiting and self.stopped is None:
            if self._window == 1 or len(self._waiting) == 1:
                self._one()
            else:
                self._side_by_side()
        if self._suspects and self.stopped is None:
            self._check_provider()
        self.counts.requesting_seconds += time.perf_counter() - started
        return self._final()

    @property
    def _window(self) -> int:
        return 1 if self.workers == 1 else self.service.limits.window(self.workers)

    def _one(self) -> None:
        self._let_it_finish()
        slice_ = self._next(running=1)
        self._settle(slice_, self._answer(slice_))

    def _side_by_side(self) -> None:
        with ThreadPoolExecutor(self.workers, thread_name_prefix="kameleon-embed") as pool:
            flying: dict[Future[Any], Slice] = {}
            while flying or (self._waiting and self.stopped is None):
                is_draining = self._busy_until > 0 and bool(flying)
                if not is_draining:
                    self._let_it_finish()
                while self._waiting and len(flying) < self._window and self.stopped is None and not is_draining:
                    slice_ = self._next(running=len(flying) + 1)
                    flying[pool.submit(self._answer, slice_)] = slice_
                    for other in flying.values():
                        other.running = max(other.running, len(flying))
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    self._settle(flying.pop(future), future.result())

    def _next(self, running: int) -> Slice:
        slice_, size = self._waiting.popleft(), self.service.limits.size
        if len(slice_.positions) > size:
            cut = [slice_.positions[n : n + size] for n in range(0, len(slice_.positions), size)]
            slice_, *rest = (Slice(positions, slice_.refused) for positions in cut)
            self._waiting.extendleft(reversed(rest))
        slice_.sent, slice_.running = next(self._clock), running
        return slice_

    # requests

    def _answer(self, slice_: Slice) -> Sequence[Any] | ProviderError:
        """The vectors and errors of a slice's texts, or the error of the request."""
        texts = [self._texts[position] for position in slice_.positions]
        try:
            return self._checked(self._request(texts, is_isolating=slice_.refused is not None), len(texts))
        except ProviderError as error:
            return error

    def _checked(self, vectors: Sequence[Any], texts: int) -> Sequence[Outcome]:
        if len(vectors) != texts:
            raise Unexplained(f"{self.provider.model_name} gave {len(vectors)} vectors for {texts} texts")
        return check_all(vectors, self.provider.dimensions)

    def _request(self, texts: list[str], *, is_isolating: bool) -> Any:
        """One request, tried again while the provider is down; meanwhile the others wait for its outcome."""
        with self._recovering:
            pass
        if self.stopped is not None:
            raise self.stopped
        try:
            return self._send(texts, len(texts))
        except ProviderUnavailable as error:
            if error.timed_out and len(texts) > 1:
                raise
            if (is_isolating or self._is_up) and error.status not in RATE_LIMITS:
                raise
            with self._recovering:
                return self._try_again(texts, error, is_isolating=is_isolating)

    def _try_again(self, texts: list[str], error: ProviderError, *, is_isolating: bool) -> Any:
        """Before the last attempt the probe is sent: it ends the run, or shows that the error is of these texts."""
        attempts = min(2, self.provider.attempts) if is_isolating else self.provider.attempts
        is_up = is_isolating
        for attempt in range(1, attempts):
            if self.stopped is not None:
                raise self.stopped
            if not self._pause(attempt, error, len(texts)):
                is_up = False
                break
            if attempt == attempts - 1 and not is_isolating:
                if (failure := self._probe()) is not None:
                    raise self._stop(failure)
                is_up = self._is_up = True
            self.counts.retries += 1
            try:
                return self._send(texts, len(texts))
            except ProviderUnavailable as again:
                error = again
        raise error if is_up else self._stop(error)

    def _pause(self, attempt: int, error: ProviderError, texts: int) -> bool:
        """Make all requests of the service wait before the next attempt; False if that is to be too long."""
        wait_s = error.retry_after_s if isinstance(error, ProviderUnavailable) else None
        if wait_s is not None and wait_s > LONGEST_WAIT_S:
            return False
        pause = backoff_s(attempt, self.service.backoff_s) if wait_s is None else wait_s
        log.warning("embed_batch:retry texts=%d attempt=%d wait_s=%.2f", texts, attempt + 1, pause)
        self.service.pace.slow_down(pause)
        return True

    def _probe(self) -> ProviderError | None:
        """Why the provider does not take a short text of our own, None if it does."""
        self.counts.probes += 1
        try:
            (outcome,) = self._checked(self._send([PROBE], 1), 1)
        except ProviderError as error:
            return error
        return outcome if isinstance(outcome, ProviderError) else None

    def _send(self, argument: Any, texts: int) -> Any:
        self.service.pace.wait()
        log.debug("embed_batch:provider_call texts=%d", texts)
        started = time.perf_counter()
        is_answered = False
        try:
            answer = translate(self.call, argument)
            is_answered = True
            return answer
        finally:
            seconds = time.perf_counter() - started
            with self._lock:
                self.counts.requests += 1
                self.counts.busy_seconds += seconds
                if not is_answered:
                    self._waited_s = seconds
                elif argument != [PROBE]:
                    self._quickest_s = min(self._quickest_s or seconds, seconds)

    def _stop(self, error: ProviderError) -> ProviderError:
        """End the run with the error of all texts, the first one's if there was one."""
        if isinstance(error, TextRefused):
            error = ProviderRefused(f"{self.provider.model_name} fails on every text: {error}")
        self.stopped = self.stopped or error
        self.service.limits.failed()
        return self.stopped

    # what an answer means

    def _settle(self, slice_: Slice, answer: Sequence[Outcome] | ProviderError) -> None:
        if not isinstance(answer, ProviderError):
            self._answered(slice_, answer)
        elif self.stopped is None:
            if isinstance(answer, ProviderRefused) and not answer.may_be_text:
                self._stop(answer)
            else:
                self._refused(slice_, answer)

    def _answered(self, slice_: Slice, outcomes: Sequence[Outcome]) -> None:
        taken = sum(not isinstance(outcome, ProviderError) for outcome in outcomes)
        settled: dict[int, Outcome] = {}
        for position, outcome in zip(slice_.positions, outcomes, strict=True):
            if isinstance(outcome, TextRefused) and (outcome.reason == "too_long" or isinstance(outcome, Unexplained)):
                self._split(position)
            if isinstance(outcome, Unexplained) and not taken:
                self._suspect(position, outcome)
            elif isinstance(outcome, ProviderError) and not isinstance(outcome, TextRefused):
                self._stop(outcome)
            else:
                settled[position] = outcome
        if taken:
            self._few = max(self._few, FEW_REFUSALS)
            self._taken(slice_, is_whole=taken == len(outcomes))
        self._land(settled)
        self._after_refusal()

    def _taken(self, slice_: Slice, *, is_whole: bool) -> None:
        limits, refused = self.service.limits, slice_.refused
        if slice_.sent > self._last_refusal:
            self._refusals = 0
        self._confirm(slice_.sent)
        if is_whole and slice_.is_half and refused is not None:
            refused.halves_taken += 1
            if refused.halves_taken == 2:
                limits.too_many(len(refused.positions), len(slice_.positions))
        limits.taken(len(slice_.positions), is_proof=refused is None)

    def _refused(self, slice_: Slice, error: ProviderError) -> None:
        if len(slice_.positions) == 1:
            self._suspect(slice_.positions[0], error, counts=slice_.note_refusal())
            if not (isinstance(error, ProviderUnavailable) and error.timed_out):
                self._split(slice_.positions[0])
        elif isinstance(error, ProviderUnavailable) and error.timed_out:
            self._too_slow(slice_)
        else:
            self._note_refusal(counts=slice_.note_refusal())
            log.warning("embed_batch:fallback texts=%d", len(slice_.positions))
            self.counts.fallbacks += 2
            smaller = [Slice(positions, slice_, is_half=True) for positions in halves(slice_.positions)]
            self._waiting.extendleft(reversed(smaller))
        self._after_refusal()

    def _too_slow(self, slice_: Slice) -> None:
        """Fewer requests at a time, and where it ran alone fewer texts. Those that ran beside it count once, and the
        server has still to do what nobody waits for."""
        if slice_.sent > self._slowed_at:
            self.service.limits.timed_out(len(slice_.positions), slice_.running)
            self._slowed_at = self._note_refusal()
        work_s = self._quickest_s if slice_.running > 1 else self._waited_s
        self._busy_until = max(self._busy_until, time.monotonic()) + work_s
        self._waiting.appendleft(slice_)

    def _let_it_finish(self) -> None:
        if self._busy_until > 0:
            self.service.pace.slow_down(min(LONGEST_WAIT_S, max(0.0, self._busy_until - time.monotonic())))
            self._busy_until = 0.0

    def _note_refusal(self, *, counts: bool = True) -> int:
        self._refusals += counts
        self._last_refusal = next(self._clock)
        return self._last_refusal

    def _suspect(self, position: int, error: ProviderError, *, counts: bool = True) -> None:
        self._suspects.append(Suspect(position, error, self._note_refusal(counts=counts)))

    def _after_refusal(self) -> None:
        if self.stopped is None and self._refusals >= self._few:
            self._check_provider()

    def _check_provider(self) -> None:
        self._let_it_finish()
        if (failure := self._probe()) is not None:
            self._stop(failure)
            return
        self._few = min(MANY_REFUSALS, 2 * self._few)
        self._refusals = 0
        self._confirm(next(self._clock))

    def _confirm(self, sent: int) -> None:
        """A text was taken in a request that was sent after these were refused."""
        self._land({s.position: verdict(s.error) for s in self._suspects if s.refused_at < sent})
        self._suspects = [suspect for suspect in self._suspects if suspect.refused_at >= sent]

    def _land(self, outcomes: Mapping[int, Outcome]) -> None:
        self._outcomes.update(outcomes)
        for position, outcome in outcomes.items():
            if position in self._wholes and not isinstance(outcome, ProviderError):
                self._go_on(position)
        self._landed({self._texts[n]: o for n, o in outcomes.items() if n < self._count and n not in self._splits})

    # a text that is too long

    def _split(self, position: int) -> None:
        """Send a refused text's first half, and then the second: if both are taken, it is too long."""
        text = self._texts[position]
        if len(text) < SHORT_TEXT:
            return
        middle = middle_of(text)
        first = len(self._texts)
        self._texts += [text[:middle], text[middle:]]
        self._splits[position] = Split(middle, first, first + 1)
        self._wholes |= {first: position, first + 1: position}
        self._send_piece(first)

    def _send_piece(self, position: int) -> None:
        self._waiting.appendleft(Slice([position], Slice([self._wholes[position]])))

    def _go_on(self, position: int) -> None:
        """A half was taken: the second is next, or the whole it is of has all its parts."""
        whole = self._wholes.get(position)
        if whole is None:
            return
        if position == self._splits[whole].first:
            self._send_piece(self._splits[whole].second)
        else:
            self._go_on(whole)

    def _pieces(self, position: int, start: int = 0) -> list[Piece] | None:
        """Those of a text, None if not all of them were taken."""
        outcome, split = self._outcomes.get(position), self._splits.get(position)
        if split is not None:
            first = self._pieces(split.first, start)
            second = self._pieces(split.second, start + split.middle) if first else None
            return [*first, *second] if first and second else None
        if outcome is None or isinstance(outcome, ProviderError):
            return None
        return [Piece(start, start + len(self._texts[position]), outcome)]

    def _is_undecided(self, position: int) -> bool:
        """Whether the run ended before it was known if a text is too long."""
        split = self._splits.get(position)
        if split is None:
            return position not in self._outcomes
        first = self._outcomes.get(split.first)
        is_over = split.first not in self._splits and isinstance(first, ProviderError)
        return self._is_undecided(split.first) or (not is_over and self._is_undecided(split.second))

    def _final(self) -> dict[str, Outcome]:
        for position in [n for n in self._splits if n < self._count]:
            pieces, outcome = self._pieces(position), self._outcomes.get(position)
            if pieces and isinstance(outcome, TextRefused):
                self._outcomes[position] = TextRefused(str(outcome), reason="too_long", pieces=pieces)
            elif self.stopped is not None and self._is_undecided(position):
                self._outcomes.pop(position, None)
        if self.stopped is not None:
            self._outcomes = {**dict.fromkeys(range(self._count), self.stopped), **self._outcomes}
        return {
            self._texts[position]: outcome
            for position, outcome in self._outcomes.items()
            if position < self._count or not isinstance(outcome, ProviderError)
        }


def verdict(error: ProviderError) -> TextRefused:
    """What is stored of a text that was refused alone while others were taken."""
    if isinstance(error, TextRefused):
        return error
    is_server_error = isinstance(error, ProviderUnavailable) and error.status is not None and error.status >= 500
    refused = TextRefused(str(error), reason="server_error" if is_server_error else "unavailable")
    refused.__cause__ = error
    return refused


def middle_of(text: str) -> int:
    """Where to cut a text in two, after a white space if there is one near the middle."""
    middle = len(text) // 2
    return max(text.rfind(space, middle // 2, middle) for space in (" ", "\n")) + 1 or middle


def translate(call: Callable[[Any], Any], argument: Any) -> Any:
    """Call a provider; what it raises beyond our own errors is an outage or a refusal of the texts it was given."""
    try:
        return call(argument)
    except ProviderError:
        raise
    except Exception as error:
        raise provider_error(error) from error
