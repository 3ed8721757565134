"""Fills a generation, batch by batch: pending records in the order of their keys, embedded with no transaction open,
then written with the run's progress in one transaction. Memory is that of a batch."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ProviderError, ReindexRunning
from ..values import Generation, IndexReport
from .catalog import Catalog
from .runs import RANGE_LEASE, WHOLE_RUN, Batch, Range, Runs
from .services import Services
from .store import Entry, Store
from .tables import parts
from .transactions import Transactions
from .writing import Plan, Writer

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService

ROWS_A_RANGE = 2_000
READ_CHARACTERS, BATCHES_READ = 1_000_000, 8

log = logging.getLogger("kameleon.reindex")


@dataclass
class Job:
    """What is built: `generation` by `service`, of `entities` alone if any are named. `is_owner` holds the lease.
    `clock` stood so when the batch before was about to be written: that counts with the next one's."""

    generation: Generation
    service: "EmbeddingService"
    batch_size: int
    entities: tuple[str, ...] = ()
    is_owner: bool = True
    written: int = 0
    clock: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Written:
    """A batch that is in the database. `is_cancelled` asks the run to stop."""

    report: IndexReport
    batch: Batch
    is_cancelled: bool = False


class Building:
    def __init__(
        self, transactions: Transactions, store: Store, catalog: Catalog, writer: Writer, services: Services
    ) -> None:
        self.runs = Runs(store.tables)
        self._transactions = transactions
        self._store = store
        self._writer = writer
        self._services = services
        self._catalog = catalog

    def pending(self, job: Job, *, after: Any = None, upto: Any = None) -> Iterator[Sequence[Entry]]:
        """Batches of records without a current embedding. Of short texts several are read at a time, in a transaction
        of its own."""
        batches = 1
        while True:
            with self._transactions.reading() as conn:
                read, after = self._store.pending(
                    conn,
                    job.generation,
                    after=after,
                    upto=upto,
                    limit=batches * job.batch_size,
                    entities=job.entities,
                )
            if not read:
                return
            yield from parts(read, job.batch_size)
            batches = batches_of(READ_CHARACTERS, read, job.batch_size)

    def write(self, job: Job, batch: Sequence[Entry]) -> Written:
        """Embed a batch and write it. An outage, or a refusal of all texts, is in the report; what came before it is
        kept. Raises ReindexRunning where the lease was lost or the generation pruned: nothing of the batch is kept
        then, and until it is in no one prunes the generation."""
        started = time.perf_counter()
        number = job.generation.number
        plan = Plan(batch, (), batch, job.service, enqueues=False, target=number, known=[job.generation])
        plan = self._writer.embed(plan, cache=self._services.cache(job.service))
        embedding_s = time.perf_counter() - started

        def attempt() -> Written:
            with self._transactions.transaction() as conn:
                clock, made = time.perf_counter(), plan.report
                seconds = clock - job.clock
                done = Batch(made.embedded, made.reused, made.failed, embedding_s, seconds - embedding_s)
                is_cancelled = self.runs.advance(conn, number, done, is_owner=job.is_owner)
                report = self._writer.apply(conn, plan)
            job.clock = clock
            return Written(report, done, is_cancelled)

        written = self._transactions.retried(attempt)
        job.written += 1
        log.info("reindex: wrote batch %d (%d rows)", job.written, len(plan.embeddings))
        return written

    def take_range(self, job: Job, worker: str) -> Range | None:
        """The owner's are his as long as the run is."""
        lease = WHOLE_RUN if job.is_owner else RANGE_LEASE
        return self._transactions.committed(
            lambda conn: self.runs.take_range(conn, job.generation.number, worker, lease)
        )

    def leave_range(self, job: Job, range_: Range, *, is_done: bool) -> None:
        """Not done with it: another may have it after a pause."""
        leave = self.runs.leave_range if is_done else self.runs.put_off
        self._transactions.committed(lambda conn: leave(conn, job.generation.number, range_.place))

    def help_out(self, worker: str, batch_size: int) -> IndexReport | None:
        """One range of a generation that another process is building; None if there is none to take, or if it is
        pruned meanwhile."""
        job = self._shared(batch_size)
        range_ = self.take_range(job, worker) if job else None
        if job is None or range_ is None:
            return None
        total, is_done = IndexReport(), False
        try:
            for batch in self.pending(job, after=range_.after, upto=range_.upto):
                written = self.write(job, batch)
                total += written.report
                if written.is_cancelled or written.report.outage:
                    break
                self.keep_range(job, range_)
            else:
                is_done = True
        except ReindexRunning as error:
            log.info("reindex: %s", error)
            return None
        finally:
            self.leave_range(job, range_, is_done=is_done)
        return total

    def keep_range(self, job: Job, range_: Range) -> None:
        """It takes a little longer."""
        self._transactions.committed(lambda conn: self.runs.keep_range(conn, job.generation.number, range_.place))

    def _shared(self, batch_size: int) -> Job | None:
        with self._transactions.reading() as conn:
            number = self.runs.shared(conn)
            known = self._catalog.generations(conn) if number is not None else []
        generation = next((g for g in known if g.number == number), None)
        if generation is None:
            return None
        try:
            service = self._services.of_generation(generation)
        except ProviderError as error:
            self._services.warn_once(f"generation {generation.number} is being built without this worker: {error}")
            return None
        return Job(generation, service, batch_size, is_owner=False)


def batches_of(characters: int, read: Sequence[Entry], batch_size: int) -> int:
    """How many batches of texts as long as those read last make so many characters; from 1 to 8."""
    rows = characters * len(read) // max(1, sum(len(entry.content) for entry in read))
    return max(1, min(BATCHES_READ, rows // batch_size))
