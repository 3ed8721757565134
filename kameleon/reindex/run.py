"""One run of a reindex: lease, batches, vector index, gate, switch."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from ..errors import GateRefused, Outdated, ReindexRefused, StorageError
from ..indexing.embedded import flattened
from ..search.prepared import prepare
from ..search.query import ask
from ..search.retrieval import Retriever
from ..stores.catalog import ACTIVE, active
from ..stores.values import Entry, IndexProgress
from ..values import BUILDING, MAX_FAILURES_SHOWN, GateReport, Generation, IndexReport, Ref, ReindexReport
from .building import ROWS_A_RANGE, Job, Written
from .gate import Gate, compare, sampled
from .owners import resign
from .request import Request, Target
from .runs import COMPARING, DONE, EMBEDDING, INDEXING, REFUSED, STOPPED

if TYPE_CHECKING:
    from .generations import Reindexing

DRAINS = 20
GATE_QUERIES = 100
WAIT_S = 0.5
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


class Run:
    """One run, from the lease to the switch."""

    def __init__(self, reindexing: "Reindexing", request: Request, target: Target) -> None:
        self._reindexing = reindexing
        self._index = reindexing.index
        self._store = reindexing.index.store
        self._building = reindexing.building
        self._runs, self._ranges = reindexing.building.runs, reindexing.building.ranges
        self._job: Job
        self._request = request
        self._target = target
        self._counts = Counts()
        self._started = time.monotonic()
        self._switched = self._is_drained = False
        self._stopped = ""
        self._gate: GateReport | None = None
        self._notes: list[str] = []

    def begin(self) -> None:
        """The lease, the generation and its ranges, in one transaction. Raises ReindexRunning, and Outdated where the
        target is no more what it was."""
        target = self._target
        with self._index.reading() as conn:
            bounds = self._store.embeddings.bounds(conn, self._rows_a_range) if target.action == "built" else []
        with self._index.transaction() as conn:
            self._take(conn, bounds)
        generation = self.generation
        log.info(
            "reindex: begins generation=%d model=%s rows=%d", generation.number, generation.model_name, target.pending
        )

    @property
    def generation(self) -> Generation:
        return self._job.generation

    @property
    def _owner(self) -> str:
        assert self._job.owner is not None  # noqa: S101 - a run has the lease
        return self._job.owner

    @property
    def _is_shared(self) -> bool:
        """What helpers pay would not be under `max_cost`."""
        return self.generation.state == BUILDING and self._request.max_cost is None

    def go(self) -> ReindexReport:
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
        if self._request.in_place and self._target.action == "built":
            self._drop_others()
        if self._target.copies is not None:
            self._copy(self._target.copies, generation)
        if self._is_shared:
            self._embed_ranges()
        else:
            self._try_again()
            self._drain()
        self._tell(INDEXING, 0, 0)
        self._index_vectors(generation)
        if self._target.action == "built":
            self._drain()
            self._check_has_vectors(generation)
            self._compare(generation)
            self._switch(generation)
            self._sweep(generation)
            self._drain()
            if self._request.drop_old:
                self._drop_others()

    def _take(self, conn: Connection, bounds: Sequence[Any]) -> None:
        catalog, target, request = self._index.catalog, self._target, self._request
        self._store.schema.lock_registry(conn, is_first=True)
        self._runs.check_free(conn)
        known = catalog.generations(conn)
        generation = target.generation
        if self._is_outdated(known):
            raise Outdated("other runs kept changing what there is to do. Try again")
        if generation is None:
            generation = catalog.add_generation(conn, target.service.provider, BUILDING)
        if request.in_place and target.action == "built":
            self._reindexing.forget(conn, [g.number for g in known if g.number != generation.number])
            catalog.reopen(conn, generation)
        owner = self._runs.begin(conn, generation, total=target.pending, batch_size=request.batch_size)
        self._job = Job(generation, target.service, request.batch_size, target.entities, owner)
        self._ranges.free(conn, [generation.number])
        if self._is_shared:
            self._ranges.add(conn, generation.number, bounds)

    def _is_outdated(self, known: Sequence[Generation]) -> bool:
        chosen, fingerprint = self._target.generation, self._target.service.provider.fingerprint
        if self._target.copies is not None and self._target.copies not in known:
            return True
        if chosen is not None:
            return chosen not in known
        return not self._request.force and any(g.fingerprint == fingerprint for g in known)

    @property
    def _rows_a_range(self) -> int:
        """Whole batches."""
        return self._request.batch_size * max(1, ROWS_A_RANGE // self._request.batch_size)

    def end(self, phase: str = STOPPED) -> None:
        """A lease that cannot be given back is this process's to take again, and ends by itself for others."""
        number = self.generation.number
        try:
            self._index.committed(partial(self._give_back, number=number, phase=phase))
        except StorageError as error:
            resign(self._owner)
            log.warning("reindex: the lease of generation %d is left to end by itself: %s", number, error)

    def _give_back(self, conn: Connection, number: int, phase: str) -> None:
        if self._runs.end(conn, number, self._owner, phase):
            self._ranges.free(conn, [number])

    # embedding

    def _embed_ranges(self) -> None:
        """Those that no helper has taken; then wait for the helpers."""
        while True:
            range_ = self._building.take_range(self._job)
            if range_ is not None:
                for batch in self._building.batches(self._job, range_):
                    self._do(batch)
                self._building.leave_range(self._job, range_)
            elif self._are_ranges_left():
                self._check_limits(())
                time.sleep(WAIT_S)
            else:
                return

    def _try_again(self) -> None:
        """What the server failed on before this run, once."""
        job = self._job
        for batch in self._building.pending(job.generation, job.batch_size, entities=job.entities, is_tried=True):
            self._do(batch)

    def _are_ranges_left(self) -> bool:
        self._note()
        with self._index.reading() as conn:
            return self._ranges.left(conn, self.generation.number) > 0

    def _drain(self) -> None:
        """What was written since, until nothing is; writers that never rest are left to be pending."""
        self._is_drained = False
        for _ in range(DRAINS):
            before = self._done
            for batch in self._building.batches(self._job):
                self._do(batch)
            if self._done == before:
                self._is_drained = True
                return

    def _do(self, batch: Sequence[Entry]) -> None:
        price = self._check_limits(batch)
        written = self._building.write(self._job, batch)
        self._count(written, price / max(1, len({entry.content for entry in batch})))
        if written.report.outage:
            raise Halted(written.report.outage)
        if written.is_to_stop:
            raise Halted("cancelled")

    def _check_limits(self, batch: Sequence[Entry]) -> float:
        """The price of a batch, if all of it is paid."""
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

    def _count(self, written: Written, price: float) -> None:
        """`price` is that of a text, of those that were embedded."""
        counts, report = self._counts, written.report
        counts.report += report
        counts.embedding_s += written.counted.embedding_s
        counts.writing_s += written.counted.writing_s
        counts.cost += price * (report.embedded + report.failed)
        self._tell(EMBEDDING, self._done, max(self._target.pending, self._done))

    @property
    def _done(self) -> int:
        report = self._counts.report
        return report.embedded + report.reused + report.failed

    def _tell(self, phase: str, done: int, total: int) -> None:
        if self._request.progress:
            self._request.progress(phase, done, total)

    def _copy(self, source: Generation, target: Generation) -> None:
        """What other entities have, piece by piece."""
        with self._index.reading() as conn:
            bounds = self._store.embeddings.bounds(conn, ROWS_A_RANGE)
        for after, upto in pairwise([None, *bounds, None]):
            self._index.committed(partial(self._copy_piece, source=source, target=target, after=after, upto=upto))

    def _copy_piece(self, conn: Connection, *, source: Generation, target: Generation, after: Any, upto: Any) -> None:
        self._runs.note(conn, target.number, self._owner)
        self._store.embeddings.copy(conn, source, target, without=self._request.entities, after=after, upto=upto)

    # index, gate, switch

    def _index_vectors(self, generation: Generation) -> None:
        started = time.perf_counter()
        self._note(phase=INDEXING)
        with self._store.connections.translating():
            is_built = self._store.vectors.build_index(
                generation, concurrently=self._request.concurrent_index, progress=self._watch
            )
        if is_built:
            self._counts.indexing_s = time.perf_counter() - started
            seconds = self._counts.indexing_s
            self._index.committed(lambda conn: self._runs.add_indexing(conn, generation.number, self._owner, seconds))

    def _watch(self, seen: IndexProgress) -> None:
        """Also keeps the lease, which no batch renews meanwhile."""
        self._note()
        waits = f", waits for process {seen.waits_for}" if seen.waits_for else ""
        self._tell(f"{INDEXING} ({seen.phase}{waits})" if seen.phase else INDEXING, seen.done, seen.total)

    def _note(self, **changes: str) -> None:
        """In the run's row. Raises Halted where that says so."""
        number = self.generation.number
        if self._index.committed(lambda conn: self._runs.note(conn, number, self._owner, **changes)):
            raise Halted("cancelled")

    def _check_has_vectors(self, generation: Generation) -> None:
        """A model that refuses every text would take the vectors from a search that has some."""
        before, made = self._target.active, self._counts.report
        if before is None or made.embedded or made.reused:
            return
        with self._index.reading() as conn:
            texts = self._reindexing.pending(conn, None, ())
            has_vectors = [self._vectors(conn, holds, texts) > 0 for holds in (generation, before)]
        if has_vectors == [False, True]:
            raise ReindexRefused(
                f"{generation.model_name} refused every text, so generation {generation.number} is not switched to: "
                f"{made.failures[0][1] if made.failures else 'an earlier run was refused'}. `kameleon embeddings "
                "prune` drops it, then reindex once the model answers"
            )

    def _vectors(self, conn: Connection, generation: Generation, texts: int) -> int:
        found = self._store.embeddings.status(conn, generation, has_provider=True)
        return texts - sum(status.pending + status.failed for status in found)

    def _compare(self, generation: Generation) -> None:
        gate = self._request.gate
        if not isinstance(gate, Gate):
            return
        with self._index.reading() as conn:
            before = active(self._index.catalog.generations(conn))
        if before is None:
            self._notes.append("no gate: there is no active generation to compare with")
            return
        self._note(phase=COMPARING)
        self._tell(COMPARING, 0, 0)
        queries = gate.queries or sampled(self._samples())
        self._gate = compare(queries, self._ranking(before), self._ranking(generation))
        if refusal := gate.refusal(self._gate):
            raise GateRefused(
                f"generation {generation.number} ({generation.model_name}) is built and not switched to: {refusal}. "
                "`kameleon embeddings reindex` without --gate switches to it, `kameleon embeddings prune` drops it"
            )

    def _samples(self) -> Iterable[str]:
        """Records from all over the index."""
        with self._index.reading() as conn:
            rows = sum(status.indexed for status in self._store.embeddings.status(conn, None, has_provider=False))
            for after in [None, *self._store.embeddings.bounds(conn, max(1, rows // GATE_QUERIES))]:
                found, _ = self._store.embeddings.pending(conn, None, after=after, limit=1)
                yield from (entry.content for entry in found)

    def _ranking(self, generation: Generation) -> Callable[[str], list[Ref]]:
        service = self._index.services.of_generation(generation)
        alone = [replace(generation, state=ACTIVE)]

        def ranking(text: str) -> list[Ref]:
            self._note()
            query = ask(text)
            retriever = Retriever(self._store, query, prepare(query, alone, service), {})
            with self._index.reading() as conn:
                hits = retriever.page(conn, retriever.find(conn)).hits
            return [Ref(hit.entity, hit.id) for hit in hits]

        return ranking

    def _switch(self, generation: Generation) -> None:
        """Writers that chose the old generation before are waited for, so that the drain which follows meets them."""
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

    def _sweep(self, generation: Generation) -> None:
        """Embeddings of records that a transaction deleted which did not know of this generation yet."""
        after: Any = None
        while True:
            with self._index.reading() as conn:
                keys, after = self._store.health.leftovers(conn, generation, after, self._request.batch_size)
            if not keys:
                return
            self._index.committed(partial(self._store.embeddings.drop, generation=generation, keys=keys))

    def _make_active(self, conn: Connection, generation: Generation) -> None:
        self._store.schema.lock_registry(conn, is_first=True)
        if self._runs.note(conn, generation.number, self._owner):
            raise Halted("cancelled")
        self._index.catalog.switch(conn, generation)

    def _drop_others(self) -> None:
        pruned = self._reindexing.prune()
        for generation in pruned.waiting:
            self._notes.append(
                f"the table of generation {generation.number} may be read by a transaction that is still open: "
                "`kameleon embeddings prune` drops it later"
            )

    def _report(self, generation: Generation) -> ReindexReport:
        counts, target = self._counts, self._target
        pending = 0
        if not self._is_drained:
            with self._index.reading() as conn:
                pending = self._reindexing.pending(conn, generation, target.entities)
        return ReindexReport(
            action=target.action,
            generation=generation.number,
            model=generation.model_name,
            embedded=counts.report.embedded,
            reused=counts.report.reused,
            failed=counts.report.failed,
            pending=pending,
            embedding_s=counts.embedding_s,
            writing_s=counts.writing_s,
            indexing_s=counts.indexing_s,
            seconds=time.monotonic() - self._started,
            switched=self._switched,
            stopped=self._stopped,
            outage=counts.report.outage,
            failures=counts.report.failures[:MAX_FAILURES_SHOWN],
            gate=self._gate,
            notes=tuple(self._notes),
        )
