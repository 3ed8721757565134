"""One call of the embedding service: which request is sent next, and what an answer means for each text. Imports
`errors`.

Whether a refusal is of one text or of all is decided by trying. A refused slice is halved until a text is alone in it;
it is a *suspect* until the provider takes another text in a later request, if need be a short one of the service's own,
the probe. Then it is refused. Where the probe is refused, too, all are: the run ends, and what was not embedded is left
pending. So is a time-out, a 429 or a 403 that follows one text; an error of the server's that does is counted by the
caller.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from ..errors import ProviderError, ProviderRefused, ProviderUnavailable, TextRefused
from .batching import halves
from .checking import Unexplained
from .report import EmbeddingReport
from .requesting import Outcome, Requests, Shared, log
from .retry import LONGEST_WAIT_S
from .text_halving import Halving

FEW_REFUSALS, MANY_REFUSALS = 2, 16
"""Bound the refusals in a row after which the probe is sent: one where the call has seen no text taken yet, then the
first, doubled each time that the probe is taken, up to the second. Chosen, not measured."""


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
        """Whether that proves more than the refusal of the slice it is part of: where both halves are refused."""
        if self.refused is None:
            return True
        self.refused.halves_refused += self.is_half
        return self.refused.halves_refused == 2


class Suspect(NamedTuple):
    position: int
    error: ProviderError
    refused_at: int


class BatchRun:
    """Requests may run on many threads; outcomes are written on the caller's alone, and given to `deliver`."""

    def __init__(self, service: Shared, call: Callable[[Sequence[str]], Any], report: EmbeddingReport) -> None:
        self._limits = service.limits
        self._pace = service.pace
        self._workers = report.concurrent_workers
        self._requests = Requests(service, call, report)
        self._few = 1
        self._refusals = 0
        self._clock = count(1)
        self._last_refusal = self._slowed_at = 0
        self._busy_until = 0.0

    def process(
        self, texts: Sequence[str], slices: Sequence[list[int]], deliver: Callable[[Mapping[str, Outcome]], None]
    ) -> dict[str, Outcome]:
        """Each text with its vector or error, and the pieces of those that are too long. Requests every slice, and
        parts of those that are refused, until none is left or the run ends."""
        started = time.perf_counter()
        self._texts, self._count, self._deliver = list(texts), len(texts), deliver
        self._halving = Halving(self._texts)
        self._outcomes: dict[int, Outcome] = {}
        self._suspects: list[Suspect] = []
        self._waiting = deque(Slice(positions) for positions in slices)
        while self._waiting and not self._is_stopped:
            if self._window == 1 or len(self._waiting) == 1:
                self._send_one()
            else:
                self._send_concurrently()
        if self._suspects and not self._is_stopped:
            self._check_provider()
        self._requests.report.requesting_seconds += time.perf_counter() - started
        return self._final()

    @property
    def _is_stopped(self) -> bool:
        return self._requests.stopped is not None

    @property
    def _window(self) -> int:
        return 1 if self._workers == 1 else self._limits.window(self._workers)

    def _send_one(self) -> None:
        self._wait_for_server()
        slice_ = self._next(running=1)
        self._settle(slice_, self._answer(slice_))

    def _send_concurrently(self) -> None:
        with ThreadPoolExecutor(self._workers, thread_name_prefix="kameleon-embed") as pool:
            sent: dict[Future[Any], Slice] = {}
            while sent or (self._waiting and not self._is_stopped):
                is_draining = self._busy_until > 0 and bool(sent)
                if not is_draining:
                    self._wait_for_server()
                while self._waiting and len(sent) < self._window and not self._is_stopped and not is_draining:
                    slice_ = self._next(running=len(sent) + 1)
                    sent[pool.submit(copy_context().run, self._answer, slice_)] = slice_
                    for other in sent.values():
                        other.running = max(other.running, len(sent))
                done, _ = wait(sent, return_when=FIRST_COMPLETED)
                for future in done:
                    self._settle(sent.pop(future), future.result())

    def _next(self, running: int) -> Slice:
        slice_, size = self._waiting.popleft(), self._limits.size
        if len(slice_.positions) > size:
            cut = [slice_.positions[n : n + size] for n in range(0, len(slice_.positions), size)]
            slice_, *rest = (Slice(positions, slice_.refused) for positions in cut)
            self._waiting.extendleft(reversed(rest))
        slice_.sent, slice_.running = next(self._clock), running
        return slice_

    def _answer(self, slice_: Slice) -> Sequence[Outcome] | ProviderError:
        texts = [self._texts[position] for position in slice_.positions]
        return self._requests.answer(texts, is_isolating=slice_.refused is not None)

    # what an answer means

    def _settle(self, slice_: Slice, answer: Sequence[Outcome] | ProviderError) -> None:
        if not isinstance(answer, ProviderError):
            self._answered(slice_, answer)
        elif not self._is_stopped:
            if isinstance(answer, ProviderRefused) and not answer.may_be_text:
                self._requests.stop(answer)
            else:
                self._refused(slice_, answer)

    def _answered(self, slice_: Slice, outcomes: Sequence[Outcome]) -> None:
        taken = sum(not isinstance(outcome, ProviderError) for outcome in outcomes)
        settled: dict[int, Outcome] = {}
        for position, outcome in zip(slice_.positions, outcomes, strict=True):
            if isinstance(outcome, TextRefused) and (outcome.reason == "too_long" or isinstance(outcome, Unexplained)):
                self._send_piece(self._halving.split(position))
            if isinstance(outcome, Unexplained) and not taken:
                self._suspect(position, outcome)
            elif isinstance(outcome, ProviderError) and not isinstance(outcome, TextRefused):
                self._requests.stop(outcome)
            else:
                settled[position] = outcome
        if taken:
            self._few = max(self._few, FEW_REFUSALS)
            self._taken(slice_, is_whole=taken == len(outcomes))
        self._record(settled)
        self._after_refusal()

    def _taken(self, slice_: Slice, *, is_whole: bool) -> None:
        refused = slice_.refused
        if slice_.sent > self._last_refusal:
            self._refusals = 0
        self._confirm(slice_.sent)
        if is_whole and slice_.is_half and refused is not None:
            refused.halves_taken += 1
            if refused.halves_taken == 2:
                self._limits.too_many(len(refused.positions), len(slice_.positions))
        self._limits.taken(len(slice_.positions), is_proof=refused is None)

    def _refused(self, slice_: Slice, error: ProviderError) -> None:
        timed_out = isinstance(error, ProviderUnavailable) and error.timed_out
        if len(slice_.positions) == 1:
            self._suspect(slice_.positions[0], error, counts=slice_.note_refusal())
            if not timed_out:
                self._send_piece(self._halving.split(slice_.positions[0]))
        elif timed_out:
            self._slow_down(slice_)
        else:
            self._note_refusal(counts=slice_.note_refusal())
            log.warning("embed_batch:fallback texts=%d", len(slice_.positions))
            self._requests.report.fallbacks += 2
            smaller = [Slice(positions, slice_, is_half=True) for positions in halves(slice_.positions)]
            self._waiting.extendleft(reversed(smaller))
        self._after_refusal()

    def _slow_down(self, slice_: Slice) -> None:
        """Fewer requests at a time, and where it ran alone fewer texts. Those that ran beside it count once, and the
        server has still to do what no request waits for."""
        if slice_.sent > self._slowed_at:
            self._limits.timed_out(len(slice_.positions), slice_.running)
            self._slowed_at = self._note_refusal()
        work_s = self._requests.quickest_s if slice_.running > 1 else self._requests.failed_s
        self._busy_until = max(self._busy_until, time.monotonic()) + work_s
        self._waiting.appendleft(slice_)

    def _wait_for_server(self) -> None:
        if self._busy_until > 0:
            self._pace.slow_down(min(LONGEST_WAIT_S, max(0.0, self._busy_until - time.monotonic())))
            self._busy_until = 0.0

    def _note_refusal(self, *, counts: bool = True) -> int:
        self._refusals += counts
        self._last_refusal = next(self._clock)
        return self._last_refusal

    def _suspect(self, position: int, error: ProviderError, *, counts: bool = True) -> None:
        self._suspects.append(Suspect(position, error, self._note_refusal(counts=counts)))

    def _after_refusal(self) -> None:
        if not self._is_stopped and self._refusals >= self._few:
            self._check_provider()

    def _check_provider(self) -> None:
        self._wait_for_server()
        if (failure := self._requests.probe()) is not None:
            self._requests.stop(failure)
            return
        self._few = min(MANY_REFUSALS, 2 * self._few)
        self._refusals = 0
        self._confirm(next(self._clock))

    def _confirm(self, sent: int) -> None:
        """A text was taken in a request that was sent after these were refused."""
        self._record({s.position: verdict(s.error) for s in self._suspects if s.refused_at < sent})
        self._suspects = [suspect for suspect in self._suspects if suspect.refused_at >= sent]

    def _record(self, outcomes: Mapping[int, Outcome]) -> None:
        self._outcomes.update(outcomes)
        for position, outcome in outcomes.items():
            if not isinstance(outcome, ProviderError):
                self._send_piece(self._halving.after(position))
        own = {n: o for n, o in outcomes.items() if n < self._count and n not in self._halving.of}
        self._deliver({self._texts[n]: outcome for n, outcome in own.items()})

    def _send_piece(self, position: int | None) -> None:
        if position is not None:
            self._waiting.appendleft(Slice([position], Slice([self._halving.whole[position]])))

    def _final(self) -> dict[str, Outcome]:
        stopped = self._requests.stopped
        for position in [n for n in self._halving.of if n < self._count]:
            pieces, outcome = self._halving.pieces(position, self._outcomes), self._outcomes.get(position)
            if pieces and isinstance(outcome, TextRefused):
                self._outcomes[position] = TextRefused(str(outcome), reason="too_long", pieces=pieces)
            elif stopped is not None and self._halving.is_undecided(position, self._outcomes):
                self._outcomes.pop(position, None)
        if stopped is not None:
            self._outcomes = {**dict.fromkeys(range(self._count), stopped), **self._outcomes}
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
