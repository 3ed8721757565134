"""Fills a generation, batch by batch: pending records in the order of their keys, embedded with no transaction open,
then written with the run's progress in one transaction. Memory is that of a batch."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import ProviderError, ReindexRunning
from ..indexing.index import Index
from ..indexing.writer import Plan
from ..stores.tables import parts
from ..stores.values import Entry
from ..values import Generation, IndexReport
from .ranges import LEASE, WHOLE_RUN, Range, Ranges
from .runs import Counted, Runs

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService

ROWS_A_RANGE = 2_000
READ_CHARACTERS, BATCHES_READ = 1_000_000, 8

log = logging.getLogger("kameleon.reindex")


@dataclass
class Job:
    """What is built: `generation` by `service`, of `entities` alone if any are named. `owner` has the lease, None is a
    helper. `clock` stood so when the batch before was written, but for its commit, which counts with the next."""

    generation: Generation
    service: "EmbeddingService"
    batch_size: int
    entities: tuple[str, ...] = ()
    owner: str | None = None
    written: int = 0
    clock: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Written:
    """A batch that is in the database. `is_to_stop`: the run was cancelled, or a helper's owner has ended."""

    report: IndexReport
    counted: Counted
    is_to_stop: bool = False


class Building:
    def __init__(self, index: Index) -> None:
        self.runs = Runs(index.tables)
        self.ranges = Ranges(index.tables)
        self._index = index
        self._store = index.store
        self._writer = index.writer
        self._services = index.services

    def batches(self, job: Job, range_: Range | None = None) -> Iterator[Sequence[Entry]]:
        """What a job has still to embed, in one range or anywhere."""
        _, after, upto = range_ or (0, None, None)
        return self.pending(job.generation, job.batch_size, entities=job.entities, after=after, upto=upto)

    def pending(
        self,
        generation: Generation | None,
        batch_size: int,
        *,
        entities: Sequence[str] = (),
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
                    entities=entities,
                    is_tried=is_tried,
                )
            if not read:
                return
            yield from parts(read, batch_size)
            batches = batches_to_read(read, batch_size)

    def write(self, job: Job, batch: Sequence[Entry], range_: Range | None = None) -> Written:
        """Embed a batch and write it. An outage, or a refusal of all texts, is in the report; what came before it is
        kept. Raises ReindexRunning where the lease was lost or the generation pruned: nothing of the batch is kept."""
        started = time.perf_counter()
        number = job.generation.number
        plan = Plan(batch, (), batch, job.service, enqueues=False, target=number)
        plan = self._writer.embed(plan, cache=self._services.cache(job.service))
        embedding_s = time.perf_counter() - started

        def attempt() -> Written:
            with self._index.transaction() as conn:
                report = self._writer.apply(conn, plan)
                clock = time.perf_counter()
                seconds = clock - job.clock - embedding_s
                counted = Counted(report.embedded, report.reused, report.failed, embedding_s, seconds)
                is_to_stop = self.runs.advance(conn, number, counted, job.owner)
                if range_ is not None and job.owner is None:
                    self.ranges.keep(conn, number, range_.place)
            job.clock = clock
            return Written(report, counted, is_to_stop)

        written = self._index.retried(attempt)
        job.written += 1
        log.info("reindex: wrote batch %d (%d rows)", job.written, len(plan.embeddings))
        return written

    def take_range(self, job: Job) -> Range | None:
        """The owner's are his as long as the run is."""
        lease = WHOLE_RUN if job.owner else LEASE
        return self._index.committed(lambda conn: self.ranges.take(conn, job.generation.number, lease))

    def leave_range(self, job: Job, range_: Range) -> None:
        self._index.committed(lambda conn: self.ranges.leave(conn, job.generation.number, range_.place))

    def help_out(self) -> IndexReport | None:
        """One range of a generation that another process is building, in batches of that one's size; None if there is
        none to take, or if it is pruned meanwhile."""
        job = self._shared()
        range_ = self.take_range(job) if job else None
        if job is None or range_ is None:
            return None
        total = IndexReport()
        try:
            for batch in self.batches(job, range_):
                written = self.write(job, batch, range_)
                total += replace(written.report, unchanged=0)
                if written.is_to_stop or written.report.outage:
                    return total
            self.leave_range(job, range_)
        except ReindexRunning as error:
            log.info("reindex: %s", error)
            return None
        return total

    def _shared(self) -> Job | None:
        with self._index.reading() as conn:
            due = self.ranges.due(conn)
            held = self.runs.held(conn) if due else {}
            known = self._index.catalog.generations(conn) if held else []
        generation = next((g for g in known if g.number in due & held.keys()), None)
        if generation is None:
            return None
        try:
            service = self._services.of_generation(generation)
        except ProviderError as error:
            message = f"generation {generation.number} is being built without this worker: {error}"
            self._services.notices.report("building", message)
            return None
        self._services.notices.report("building", "")
        return Job(generation, service, held[generation.number])


def batches_to_read(read: Sequence[Entry], batch_size: int) -> int:
    """How many batches of texts as long as those read last make a million characters; from 1 to 8."""
    rows = READ_CHARACTERS * len(read) // max(1, sum(len(entry.content) for entry in read))
    return max(1, min(BATCHES_READ, rows // batch_size))
