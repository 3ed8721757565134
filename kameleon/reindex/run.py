"""One run of a reindex: lease, batches, vector index, comparison, switch. Imports `values`, `errors`, `stores` and
`indexing`."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection

from ..errors import GateRefused, Outdated, StorageError
from ..indexing.embedded import flattened
from ..stores.catalog import ACTIVE, active
from ..stores.values import Entry, IndexProgress
from ..values import BUILDING, MAX_FAILURES_SHOWN, GateReport, Generation, IndexReport, ReindexReport
from .building import ROWS_A_RANGE, Job, Written
from .comparing import Comparison
from .gate import Gate
from .lease import COMPARING, DONE, EMBEDDING, INDEXING, REFUSED, STOPPED
from .owners import release
from .registry import Registry
from .request import Request, Target

DRAINS = 20
"""Bounds how often a run looks for what was written meanwhile: writers that never stop leave the rest pending."""
WAIT_S = 0.5
"""Bounds how long a run waits for its helpers before it looks at their ranges again. Chosen, not measured."""

log = logging.getLogger("kameleon.reindex")


class Halted(Exception):
    """The run stops between two batches."""


@dataclass
class Counts:
    report: IndexReport = field(default_factory=IndexReport)
    embedding_s: float = 0.0
    writing_s: float = 0.0
    indexing_s: float = 0.0
    cost: float = 0.0

    @property
    def done(self) -> int:
        return self.report.embedded + self.report.reused + self.report.failed

    def add(self, written: Written, price: float) -> None:
        """`price` is that of a text, of those that were embedded."""
        self.report += written.report
        self.embedding_s += written.embedding_s
        self.writing_s += written.writing_s
        self.cost += price * (written.report.embedded + written.report.failed)


class Run:
    """One run, from the lease to the switch."""

    def __init__(self, registry: Registry, request: Request, target: Target) -> None:
        self._registry = registry
        self._index = registry.index
        self._store = registry.index.store
        self._building = registry.building
        self._runs, self._ranges = registry.building.runs, registry.building.ranges
        self._job: Job
        self._request = request
        self._target = target
        self._counts = Counts()
        self._started = time.monotonic()
        self._switched = self._is_drained = False
        self._stopped = ""
        self._gate: GateReport | None = None
        self._notes: list[str] = []

    # the lease

    def begin(self) -> None:
        """Take the lease, and make the generation and its ranges, in one transaction. Raises ReindexRunning, and
        Outdated where the target has changed meanwhile."""
        target, batch_size = self._target, self._request.batch_size
        rows = batch_size * max(1, ROWS_A_RANGE // batch_size)  # whole batches
        with self._index.reading() as conn:
            bounds = self._store.embeddings.bounds(conn, rows) if target.action == "built" else []
        with self._index.transaction() as conn:
            self._take(conn, bounds)
        number, model = self.generation.number, self.generation.model_name
        log.info("reindex: begins generation=%d model=%s rows=%d", number, model, target.pending)

    def _take(self, conn: Connection, bounds: Sequence[Any]) -> None:
        catalog, target, request = self._index.catalog, self._target, self._request
        self._store.schema.lock_registry(conn, is_first=True)
        self._runs.check_free(conn)
        generations = catalog.generations(conn)
        generation = target.generation
        if self._is_outdated(generations):
            raise Outdated("other runs kept changing what there is to do. Try again")
        if generation is None:
            generation = catalog.add_generation(conn, target.service.provider, BUILDING)
        if request.in_place and target.action == "built":
            self._registry.forget(conn, [g.number for g in generations if g.number != generation.number])
            catalog.reopen(conn, generation)
        owner = self._runs.begin(conn, generation, total=target.pending, batch_size=request.batch_size)
        self._job = Job(generation, target.service, request.batch_size, target.part, owner)
        self._ranges.drop(conn, [generation.number])
        if self._is_shared:
            self._ranges.add(conn, generation.number, bounds)

    def _is_outdated(self, generations: Sequence[Generation]) -> bool:
        chosen, fingerprint = self._target.generation, self._target.service.provider.fingerprint
        if self._target.copies is not None and self._target.copies not in generations:
            return True
        if chosen is not None:
            return chosen not in generations
        return not self._request.force and any(g.fingerprint == fingerprint for g in generations)

    @property
    def generation(self) -> Generation:
        return self._job.generation

    @property
    def _owner(self) -> str:
        assert self._job.owner is not None  # noqa: S101 - a run has the lease
        return self._job.owner

    @property
    def _is_shared(self) -> bool:
        """Whether helpers may take ranges: what they pay would not be under `max_cost`."""
        return self.generation.state == BUILDING and self._request.max_cost is None

    def _renew(self, **changes: Any) -> None:
        """Renew the lease, and note changes of the run. Raises Halted where it was cancelled."""
        renew = partial(self._runs.renew, number=self.generation.number, owner=self._owner, **changes)
        if self._index.committed(renew):
            raise Halted("cancelled")

    def end(self, phase: str = STOPPED) -> None:
        """Release the lease. Where the database takes no writes, this process may take it again, and for others it
        expires."""
        number = self.generation.number
        try:
            self._index.committed(partial(self._release, number=number, phase=phase))
        except StorageError as error:
            release(self._owner)
            log.warning("reindex: the lease of generation %d is left to expire: %s", number, error)

    def _release(self, conn: Connection, number: int, phase: str) -> None:
        if self._runs.end(conn, number, self._owner, phase):
            self._ranges.drop(conn, [number])

    # steps

    def run(self) -> ReindexReport:
        phase = STOPPED
        try:
            self._build(self.generation)
            phase = DONE
        except Halted as halted:
            self._stopped = str(halted)
        except GateRefused:
            phase = REFUSED
            raise
        finally:
            self.end(phase)
        return self._report(self.generation)

    def _build(self, generation: Generation) -> None:
        is_built = self._target.action == "built"
        if self._request.in_place and is_built:
            self._drop_others()
        if self._target.copies is not None:
            self._copy(self._target.copies, generation)
        if self._is_shared:
            self._embed_ranges()
        else:
            self._try_again()
            self._drain()
        self._report_progress(INDEXING, 0, 0)
        self._index_vectors(generation)
        if is_built:
            self._drain()
            self._compare(generation)
            self._switch(generation)
            self._sweep(generation)
            self._drain()
            if self._request.drop_old:
                self._drop_others()

    def _copy(self, source: Generation, target: Generation) -> None:
        """Copy what other records have, piece by piece."""
        with self._index.reading() as conn:
            bounds = self._store.embeddings.bounds(conn, ROWS_A_RANGE)
        for after, upto in pairwise([None, *bounds, None]):
            self._index.committed(partial(self._copy_piece, source=source, target=target, after=after, upto=upto))

    def _copy_piece(self, conn: Connection, *, source: Generation, target: Generation, after: Any, upto: Any) -> None:
        self._runs.renew(conn, target.number, self._owner)
        self._store.embeddings.copy(conn, source, target, without=self._request.part, after=after, upto=upto)

    def _embed_ranges(self) -> None:
        """Embed the ranges that no helper has claimed; then wait for the helpers."""
        while True:
            range_ = self._building.claim_range(self._job)
            if range_ is not None:
                for batch in self._building.batches(self._job, range_):
                    self._write(batch)
                self._building.finish_range(self._job, range_)
            elif self._are_ranges_left():
                self._check_limits(())
                time.sleep(WAIT_S)
            else:
                return

    def _are_ranges_left(self) -> bool:
        self._renew()
        with self._index.reading() as conn:
            return self._ranges.left(conn, self.generation.number) > 0

    def _try_again(self) -> None:
        """Embed what the server failed on before this run, once."""
        job = self._job
        for batch in self._building.pending(job.generation, job.batch_size, part=job.part, is_tried=True):
            self._write(batch)

    def _drain(self) -> None:
        """Embed what was written since, until nothing is pending."""
        self._is_drained = False
        for _ in range(DRAINS):
            before = self._counts.done
            for batch in self._building.batches(self._job):
                self._write(batch)
            if self._counts.done == before:
                self._is_drained = True
                return

    def _write(self, batch: Sequence[Entry]) -> None:
        price = self._check_limits(batch)
        written = self._building.write(self._job, batch)
        counts = self._counts
        counts.add(written, price / max(1, len({entry.content for entry in batch})))
        self._report_progress(EMBEDDING, counts.done, max(self._target.pending, counts.done))
        if written.report.outage:
            raise Halted(written.report.outage)
        if written.must_stop:
            raise Halted("cancelled")

    def _check_limits(self, batch: Sequence[Entry]) -> float:
        """The price of a batch, if all of it is paid. Raises Halted."""
        minutes, most = self._request.max_minutes, self._request.max_cost
        if minutes is not None and time.monotonic() - self._started >= 60 * minutes:
            raise Halted(f"{minutes:g} minutes are over")
        if most is None:
            return 0.0
        provider = self._target.service.provider
        contents = list({entry.content for entry in batch})
        texts = set(flattened(contents, self._target.service.split(contents)))
        tokens = sum(map(provider.count_tokens, texts))
        price = tokens * (self._request.price(provider) or 0.0) / 1e6
        if self._counts.cost + price > most:
            raise Halted(f"the next batch would cost more than the {most:g} that were allowed")
        return price

    def _index_vectors(self, generation: Generation) -> None:
        started = time.perf_counter()
        self._renew(phase=INDEXING)
        with self._store.connections.translating():
            is_built = self._store.vectors.build_index(
                generation, concurrently=self._request.concurrent_index, progress=self._watch
            )
        if is_built:
            seconds = self._counts.indexing_s = time.perf_counter() - started
            advance = partial(self._runs.advance, number=generation.number, owner=self._owner, indexing_s=seconds)
            self._index.committed(advance)

    def _watch(self, progress: IndexProgress) -> None:
        """Also renews the lease, which no batch does meanwhile."""
        self._renew()
        waits = f", waits for process {progress.waits_for}" if progress.waits_for else ""
        phase = f"{INDEXING} ({progress.phase}{waits})" if progress.phase else INDEXING
        self._report_progress(phase, progress.done, progress.total)

    def _compare(self, generation: Generation) -> None:
        gate = self._request.gate
        with self._index.reading() as conn:
            before = active(self._index.catalog.generations(conn))
        if before is not None:
            comparison = Comparison(self._index, before, generation, self._renew)
            comparison.check_has_vectors(self._counts.report)
        if not isinstance(gate, Gate):
            return
        if before is None:
            self._notes.append("no gate: there is no active generation to compare with")
            return
        self._renew(phase=COMPARING)
        self._report_progress(COMPARING, 0, 0)
        self._gate = comparison.check_gate(gate)

    def _switch(self, generation: Generation) -> None:
        """Switch to the generation. Writers that chose the old one before are waited for, so that the drain which
        follows sees their records."""
        self._index.committed(partial(self._make_active, generation=generation))
        self._switched = True
        self._job.generation = replace(generation, state=ACTIVE)
        log.info("reindex: switched generation=%d model=%s", generation.number, generation.model_name)
        with self._store.connections.translating():
            if not self._store.schema.wait_for_readers():
                self._notes.append(
                    "a transaction from before the switch is still open: what it commits is pending until `kameleon "
                    "embeddings sync`"
                )

    def _make_active(self, conn: Connection, generation: Generation) -> None:
        self._store.schema.lock_registry(conn, is_first=True)
        if self._runs.renew(conn, generation.number, self._owner):
            raise Halted("cancelled")
        self._index.catalog.switch(conn, generation)

    def _sweep(self, generation: Generation) -> None:
        """Drop embeddings of records that a transaction deleted which did not know of this generation yet."""
        after: Any = None
        while True:
            with self._index.reading() as conn:
                keys, after = self._store.health.leftovers(conn, generation, after, self._request.batch_size)
            if not keys:
                return
            self._index.committed(partial(self._store.embeddings.drop, generation=generation, keys=keys))

    def _drop_others(self) -> None:
        self._notes += [
            f"the table of generation {generation.number} may be read by a transaction that is still open: "
            "`kameleon embeddings prune` drops it later"
            for generation in self._registry.prune().waiting
        ]

    # reports

    def _report_progress(self, phase: str, done: int, total: int) -> None:
        if self._request.progress:
            self._request.progress(phase, done, total)

    def _report(self, generation: Generation) -> ReindexReport:
        counts, target = self._counts, self._target
        pending = 0
        if not self._is_drained:
            with self._index.reading() as conn:
                pending = self._registry.pending(conn, generation, target.part)
        report = counts.report
        return ReindexReport(
            action=target.action,
            generation=generation.number,
            model=generation.model_name,
            embedded=report.embedded,
            reused=report.reused,
            failed=report.failed,
            pending=pending,
            embedding_s=counts.embedding_s,
            writing_s=counts.writing_s,
            indexing_s=counts.indexing_s,
            seconds=time.monotonic() - self._started,
            switched=self._switched,
            stopped=self._stopped,
            outage=report.outage,
            failures=report.failures[:MAX_FAILURES_SHOWN],
            gate=self._gate,
            notes=tuple(self._notes),
        )
