"""Fills a generation, batch by batch: pending records in the order of their keys, embedded with no transaction open,
then written with the run's progress in one transaction. Memory is that of a batch. Imports `values`, `errors`,
`telemetry`, `embeddings`, `stores` and `indexing`."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import ProviderError, ReindexRunning
from ..indexing.index import Index
from ..indexing.writer import Plan
from ..stores.tables import parts
from ..stores.values import WHOLE, Entry, Part
from ..telemetry import operation
from ..telemetry.measures import TAKEN, TASK, WORK
from ..values import Generation, IndexReport
from .lease import Runs
from .ranges import RANGE_LEASE, WHOLE_RUN, Range, Ranges

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService

ROWS_A_RANGE = 2_000
"""Bounds the records of a range, which is one helper's at a time."""
CHARACTERS_AHEAD, BATCHES_AHEAD = 1_000_000, 8
"""Bound the text, and the batches, that are read at a time."""

log = logging.getLogger("kameleon.reindex")


@dataclass
class Job:
    """What is built: `generation` by `service`, of the records of `part`. `owner` has the lease, None is a
    helper. `clock` is when the batch before was written, but for its commit, which counts with the next."""

    generation: Generation
    service: "EmbeddingService"
    batch_size: int
    part: Part = WHOLE
    owner: str | None = None
    written: int = 0
    clock: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Written:
    """A batch that is in the database. `must_stop`: the run was cancelled, or the owner's, for a helper, has ended."""

    report: IndexReport
    embedding_s: float
    writing_s: float
    must_stop: bool


class Building:
    def __init__(self, index: Index) -> None:
        self.runs = Runs(index.tables)
        self.ranges = Ranges(index.tables)
        self._index = index
        self._store = index.store
        self._writer = index.writer
        self._services = index.services

    def batches(self, job: Job, range_: Range | None = None) -> Iterator[Sequence[Entry]]:
        """The pending records of a job, of one range or all."""
        _, after, upto = range_ or (0, None, None)
        return self.pending(job.generation, job.batch_size, part=job.part, after=after, upto=upto)

    def pending(
        self,
        generation: Generation | None,
        batch_size: int,
        *,
        part: Part = WHOLE,
        after: Any = None,
        upto: Any = None,
        is_tried: bool = False,
    ) -> Iterator[Sequence[Entry]]:
        """Batches of records without a current embedding, of all records where there is no generation; of those that
        the server failed on before where `is_tried`, else of all others. Of short texts several are read at a time, in
        a transaction of its own."""
        batches = 1
        while True:
            with self._index.reading() as conn:
                read, after = self._store.embeddings.pending(
                    conn,
                    generation,
                    after=after,
                    upto=upto,
                    limit=batches * batch_size,
                    entities=part.entities,
                    tenants=part.tenants,
                    is_tried=is_tried,
                )
            if not read:
                return
            yield from parts(read, batch_size)
            batches = batches_to_read(read, batch_size)

    def write(self, job: Job, batch: Sequence[Entry], range_: Range | None = None) -> Written:
        """Embed a batch and write it. An outage, or a refusal of all texts, is in the report; what came before it is
        kept. Raises ReindexRunning where the lease was lost or the generation pruned: nothing of the batch is kept."""
        with operation(WORK, attributes={TASK: "reindex", TAKEN: len(batch)}):
            return self._write(job, batch, range_)

    def _write(self, job: Job, batch: Sequence[Entry], range_: Range | None) -> Written:
        started = time.perf_counter()
        number = job.generation.number
        lacks_noise = job.generation.noise is None and not job.written
        plan = Plan(batch, (), batch, job.service, enqueues=False, target=number, lacks_noise=lacks_noise)
        plan = self._writer.embed(plan, cache=self._services.cache(job.service))
        embedding_s = time.perf_counter() - started

        def attempt() -> Written:
            with self._index.transaction() as conn:
                report = self._writer.apply(conn, plan)
                clock = time.perf_counter()
                writing_s = clock - job.clock - embedding_s
                done = {"embedded": report.embedded, "reused": report.reused, "failed": report.failed}
                must_stop = self.runs.advance(
                    conn, number, job.owner, **done, embedding_s=embedding_s, writing_s=writing_s
                )
                if range_ is not None and job.owner is None:
                    self.ranges.renew(conn, number, range_.place)
            job.clock = clock
            return Written(report, embedding_s, writing_s, must_stop)

        written = self._index.retried(attempt)
        job.written += 1
        log.info("reindex: wrote batch %d (%d rows)", job.written, len(plan.embeddings))
        return written

    def claim_range(self, job: Job) -> Range | None:
        """A range that is not claimed: the run's owner keeps it to the end of the run, a helper as long as it renews
        it."""
        lease, may_skip = WHOLE_RUN if job.owner else RANGE_LEASE, self._store.connections.can_lock_rows()
        return self._index.committed(
            partial(self.ranges.claim, number=job.generation.number, lease=lease, may_skip=may_skip)
        )

    def finish_range(self, job: Job, range_: Range) -> None:
        self._index.committed(partial(self.ranges.finish, number=job.generation.number, place=range_.place))

    def help_out(self) -> IndexReport | None:
        """Fill one range of a generation that another process is building, in batches of that one's size; None if there
        is none to claim, or if the generation is pruned meanwhile."""
        job = self._shared_job()
        range_ = self.claim_range(job) if job else None
        if job is None or range_ is None:
            return None
        total = IndexReport()
        try:
            for batch in self.batches(job, range_):
                written = self.write(job, batch, range_)
                total += replace(written.report, unchanged=0)
                if written.must_stop or written.report.outage:
                    return total
            self.finish_range(job, range_)
        except ReindexRunning as error:
            log.info("reindex: %s", error)
            return None
        return total

    def _shared_job(self) -> Job | None:
        with self._index.reading() as conn:
            due = self.ranges.due(conn)
            held = self.runs.held(conn) if due else {}
            generations = self._index.catalog.generations(conn) if held else []
        generation = next((g for g in generations if g.number in due & held.keys()), None)
        if generation is None:
            return None
        message = ""
        try:
            return Job(generation, self._services.of_generation(generation), held[generation.number])
        except ProviderError as error:
            message = f"generation {generation.number} is being built without this worker: {error}"
            return None
        finally:
            self._services.notices.report("building", message)


def batches_to_read(read: Sequence[Entry], batch_size: int) -> int:
    """How many batches of texts as long as those read last make a million characters; from 1 to 8."""
    rows = CHARACTERS_AHEAD * len(read) // max(1, sum(len(entry.content) for entry in read))
    return max(1, min(BATCHES_AHEAD, rows // batch_size))
