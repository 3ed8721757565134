"""Re-embedding: moves an index to another model, or makes its embeddings anew, while search and writing go on.

A run builds a *generation* beside the active one, in batches that each commit with their progress; then PostgreSQL's
vector index; then what was written meanwhile; then it switches, which is one statement on the registry. Until that
moment every query is answered from the old generation, from then on by the new one: no query compares vectors of two
models. The old one stays for `rollback` until `prune` or `drop_old`.

If a run is killed, run it again: it resumes after its last batch, and search was right all along. Nothing else has to
be mended: what is missing in a generation is not remembered but looked up, and the lease of a run that died is free as
soon as its process is gone (five minutes after its last batch, if it ran on another machine).
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sqlalchemy import Connection

from .errors import (
    GateRefused,
    InvalidInput,
    NoProvider,
    Outdated,
    ProviderError,
    ReindexRefused,
    StorageError,
    UnknownEntity,
    VectorsUnavailable,
)
from .gate import Gate, compare, sampled
from .search.building import ROWS_A_RANGE, Job, Written
from .search.catalog import ACTIVE, BUILDING, active, current
from .search.query import ask
from .search.retrieval import Retriever
from .search.runs import COMPARING, DONE, EMBEDDING, INDEXING, REFUSED, STOPPED
from .search.store import Entry, IndexProgress
from .values import MAX_FAILURES_SHOWN, GateReport, Generation, IndexReport, Ref, ReindexPlan, ReindexReport, ReindexRun

if TYPE_CHECKING:
    from .embeddings.provider import EmbeddingProvider
    from .embeddings.service import EmbeddingService
    from .search.engine import SearchEngine

Progress = Callable[[str, int, int], None]

DRAINS = 20
GATE_QUERIES = 100
WAIT_S = 0.5

log = logging.getLogger("kameleon.reindex")


class ReindexOptions(TypedDict, total=False):
    """What `reindex` may be asked; `SearchEngine.reindex` says what each means."""

    provider: "str | EmbeddingProvider | None"
    model: str | None
    dimensions: int | None
    batch_size: int
    force: bool
    in_place: bool
    drop_old: bool
    concurrent_index: bool
    gate: Gate | float | None
    max_minutes: float | None
    max_cost: float | None
    price_per_million: float | None
    progress: Progress | None


@dataclass(frozen=True)
class Request:
    """The options, checked."""

    entities: tuple[str, ...] = ()
    provider: "str | EmbeddingProvider | None" = None
    model: str | None = None
    dimensions: int | None = None
    batch_size: int = 128
    force: bool = False
    in_place: bool = False
    drop_old: bool = False
    concurrent_index: bool = True
    gate: "Gate | float | None" = None
    max_minutes: float | None = None
    max_cost: float | None = None
    price_per_million: float | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise InvalidInput(f"batch_size is a whole number of records from 1 on, not {self.batch_size!r:.40}")
        for name in ("max_minutes", "max_cost", "price_per_million"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InvalidInput(f"{name} is 0 or more, not {value!r:.40}")
        if isinstance(self.gate, int | float):
            object.__setattr__(self, "gate", Gate(overlap=self.gate))
        elif not (self.gate is None or isinstance(self.gate, Gate)):
            raise InvalidInput(f"gate is an overlap@10 from 0 to 1 or a kameleon.gate.Gate, not {self.gate!r:.80}")
        if self.in_place and self.entities:
            raise InvalidInput("in_place drops the embeddings of the whole index: name no entity")
        if self.in_place and self.gate is not None:
            raise InvalidInput(
                "in_place drops the old embeddings first, so there is nothing for a gate to compare with"
            )
        if self.model is not None and not (self.provider is None or isinstance(self.provider, str)):
            raise InvalidInput("model goes with a provider's name; a provider object has its own")

    @property
    def names_a_model(self) -> bool:
        return self.provider is not None or self.model is not None or self.dimensions is not None

    def price(self, provider: "EmbeddingProvider") -> float | None:
        """Of a million tokens: the one that was named, be it 0, before the provider's own."""
        return provider.price_per_million if self.price_per_million is None else self.price_per_million


@dataclass(frozen=True)
class Target:
    """What is to be done: `generation` None is to be made, of the records that are not in `copies` if that is set."""

    service: "EmbeddingService"
    generation: Generation | None
    active: Generation | None
    pending: int
    entities: tuple[str, ...] = ()
    copies: Generation | None = None

    @property
    def action(self) -> str:
        if self.generation is None or self.generation.state != ACTIVE:
            return "built"
        return "filled" if self.pending else "nothing"


@dataclass(frozen=True)
class PruneReport:
    """Generations whose tables are gone, and those whose table a transaction that is still open may be reading: the
    next prune drops these."""

    dropped: tuple[Generation, ...] = ()
    waiting: tuple[Generation, ...] = ()


class Halted(Exception):
    """The run stops between two batches."""


class Reindexing:
    """Generations of one index: what users reach as `search.reindexing`."""

    def __init__(self, search: "SearchEngine") -> None:
        self._search = search
        self._store = search.store
        self._catalog = search.catalog
        self._services = search.services
        self._runs = search.building.runs

    def run(self, request: Request) -> ReindexReport:
        run = self._search.retried(partial(self._begun, request))
        return run.go() if isinstance(run, Run) else run

    def _begun(self, request: Request) -> "Run | ReindexReport":
        """A run that has the lease, or why there is nothing for one to do."""
        target = self.target(request)
        if target.action == "nothing":
            note = f"{target.service.provider.model_name} is the index's model and nothing is pending"
            number = target.generation.number if target.generation else None
            return ReindexReport("nothing", number, target.service.provider.model_name, notes=(note,))
        self._check(target, request)
        run = Run(self._search, request, target)
        run.begin()
        return run

    def target(self, request: Request) -> Target:
        """What a request comes to; reads only. Raises InvalidInput, UnknownEntity, NoProvider, VectorsUnavailable."""
        with self._search.reading() as conn:
            known = self._catalog.generations(conn)
            service = self._service(known, request)
            self._check_dimensions(conn, service, request)
            self._check_entities(conn, known, service, request)
            return self._chosen(conn, known, service, request)

    def _chosen(
        self, conn: Connection, known: Sequence[Generation], service: "EmbeddingService", request: Request
    ) -> Target:
        fingerprint = service.provider.fingerprint
        own = [g for g in known if g.fingerprint == fingerprint]
        half = next((g for g in reversed(own) if g.state == BUILDING), None)
        whole = active(own) or next((g for g in reversed(own) if g.state != BUILDING), None)
        generation = half if half is not None or request.force else whole
        copies = active(known) if request.force and request.entities else None
        entities = request.entities if generation is not None and generation.state == ACTIVE else ()
        pending = self.pending(conn, generation, request.entities)
        return Target(service, generation, active(known), pending, entities, copies)

    def pending(self, conn: Connection, generation: Generation | None, entities: Sequence[str]) -> int:
        found = self._store.status(conn, generation, has_provider=True)
        return sum(status.pending for status in found if not entities or status.entity in entities)

    def _service(self, known: Sequence[Generation], request: Request) -> "EmbeddingService":
        own = self._services.provider
        if request.provider is not None and not isinstance(request.provider, str):
            return self._services.of_provider(request.provider)
        if request.names_a_model:
            return self._named(known, request)
        if own is not None and not isinstance(own, str):
            return self._services.of_provider(own)
        half = [g for g in known if g.state == BUILDING]
        holds = half[-1] if half else current(known)
        if holds is not None:
            return self._services.of_generation(holds)
        if own is None:
            raise NoProvider
        return self._services.named(own)

    def _named(self, known: Sequence[Generation], request: Request) -> "EmbeddingService":
        from .embeddings import chosen

        holds = current(known)
        if request.provider is None and request.model is None:
            if holds is None or not holds.provider:
                raise InvalidInput("dimensions alone name no model: say which provider= or model= is to have them")
            options = dict(holds.options)
            if "dimensions" in options:
                options["dimensions"] = request.dimensions
            return self._services.named(holds.provider, **options)
        assert request.provider is None or isinstance(request.provider, str)  # noqa: S101 - an object was served before
        name, options = chosen(request.provider, request.model, request.dimensions)
        return self._services.named(name, **options)

    def _check_dimensions(self, conn: Connection, service: "EmbeddingService", request: Request) -> None:
        gives = service.provider.dimensions
        if request.dimensions is not None and gives != request.dimensions:
            raise InvalidInput(
                f"{service.provider.model_name} makes {gives} dimensions, {request.dimensions} were asked for. Leave "
                "dimensions out, or name a model that makes them"
            )
        if refusal := self._store.refusal(conn, gives):
            raise VectorsUnavailable(refusal)

    def _check_entities(
        self, conn: Connection, known: Sequence[Generation], service: "EmbeddingService", request: Request
    ) -> None:
        if not request.entities:
            return
        holds = active(known)
        if holds is None:
            raise InvalidInput("the index has no complete embeddings yet: reindex all of it, naming no entity")
        if holds.fingerprint != service.provider.fingerprint:
            raise InvalidInput(
                f"{', '.join(request.entities)} alone cannot move to {service.provider.model_name}: a change of model "
                "is for the whole index. Name no entity"
            )
        there = [status.entity for status in self._store.status(conn, None, has_provider=False)]
        if missing := [name for name in request.entities if name not in there]:
            raise UnknownEntity(
                f"nothing of {missing[0]!r} is in the index. It has: {', '.join(there) or 'no records'}"
            )

    def _check(self, target: Target, request: Request) -> None:
        """What would otherwise be found out after the first batch."""
        provider = target.service.provider
        if request.max_cost is not None and request.price(provider) is None:
            raise InvalidInput(f"max_cost needs price_per_million: nobody told what {provider.model_name} costs")
        if request.gate is not None and target.active is not None:
            self._services.of_generation(target.active)
        if request.dimensions is not None and target.pending:
            target.service.embed_batch(["kameleon"], on_error="raise")

    def plan(self, *entities: object, rate: float | None = None, **options: Unpack[ReindexOptions]) -> ReindexPlan:
        """What `search.reindex` would do with the same arguments, and how long at `rate` records a second. Writes
        nothing and asks no provider. Raises what `target` does."""
        from .estimating import estimate

        return estimate(self._search, Request(self._search.names(entities), **options), rate=rate)

    # what else is done with generations

    def rollback(self, *, progress: Progress | None = None) -> ReindexReport:
        """Make the generation that was active before the active one again, then embed what was written since. Raises
        ReindexRefused where there is none."""
        to = self._search.committed(self._go_back)
        with self._store.translating():
            self._store.wait_for_readers()
        log.info("reindex: rolled_back generation=%d model=%s", to.number, to.model_name)
        with self._search.reading() as conn:
            pending = self.pending(conn, to, ())
        report = ReindexReport("rolled back", to.number, to.model_name, pending=pending, switched=True)
        try:
            target = Target(self._services.of_generation(to), replace(to, state=ACTIVE), to, pending)
            run = Run(self._search, Request(progress=progress), target)
            self._search.retried(run.begin)
            filled = run.go()
        except (ProviderError, ReindexRefused) as error:
            return replace(report, notes=(f"{pending} records are pending: {error}",) if pending else ())
        return replace(filled, action="rolled back", switched=True)

    def _go_back(self, conn: Connection) -> Generation:
        self._store.lock_registry(conn, is_first=True)
        to = self._catalog.retired_last(conn)
        if to is None:
            raise ReindexRefused("there is no generation to go back to: none was switched from, or it was pruned")
        self._catalog.switch(conn, to)
        return to

    def prune(self) -> PruneReport:
        """Drop every generation but the active one and those that are being built at this moment."""
        self._search.committed(self._forget_others)
        return self.drop_tables()

    def _forget_others(self, conn: Connection) -> None:
        self._store.lock_registry(conn, is_first=True)
        known = self._catalog.generations(conn)
        kept = {holds.number for holds in (current(known),) if holds} | self._runs.held(conn).keys()
        self.forget(conn, [g.number for g in known if g.number not in kept])

    def forget(self, conn: Connection, numbers: Sequence[int]) -> None:
        self._catalog.forget(conn, numbers)
        self._runs.forget(conn, numbers)
        self._search.building.ranges.free(conn, numbers)

    def drop_tables(self) -> PruneReport:
        """Of generations that are forgotten."""
        with self._search.reading() as conn:
            there = self._store.embedding_tables(conn)
            forgotten = [g for g in self._catalog.dropped(conn) if g.number in there]
        dropped, waiting = list[Generation](), list[Generation]()
        for generation in forgotten:
            with self._store.translating():
                (dropped if self._store.drop_generation(generation) else waiting).append(generation)
        return PruneReport(tuple(dropped), tuple(waiting))

    def cancel(self) -> list[str]:
        """Ask the runs that are under way, on any machine, to stop after their batch; tells whose they are."""
        return self._search.committed(self._runs.cancel)

    def status(self) -> list[ReindexRun]:
        """The runs that are known, by generation, under way or not."""
        with self._search.reading() as conn:
            return self._runs.all(conn)


@dataclass
class Counts:
    report: IndexReport = field(default_factory=IndexReport)
    embedding_s: float = 0.0
    writing_s: float = 0.0
    indexing_s: float = 0.0
    cost: float = 0.0


class Run:
    """One run, from the lease to the switch."""

    def __init__(self, search: "SearchEngine", request: Request, target: Target) -> None:
        self._search = search
        self._store = search.store
        self._building = search.building
        self._runs, self._ranges = search.building.runs, search.building.ranges
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
        with self._search.reading() as conn:
            bounds = self._store.bounds(conn, self._rows_a_range) if target.action == "built" else []
        with self._search.transaction() as conn:
            self._job = self._take(conn, bounds)
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
            self._drain()
        self._tell(INDEXING, 0, 0)
        self._index(generation)
        if self._target.action == "built":
            self._drain()
            self._check_has_vectors(generation)
            self._compare(generation)
            self._switch(generation)
            self._sweep(generation)
            self._drain()
            if self._request.drop_old:
                self._drop_others()

    def _take(self, conn: Connection, bounds: Sequence[Any]) -> Job:
        catalog, target, request = self._search.catalog, self._target, self._request
        self._store.lock_registry(conn, is_first=True)
        self._runs.check_free(conn)
        known = catalog.generations(conn)
        generation = target.generation
        if self._is_outdated(known):
            raise Outdated("other runs kept changing what there is to do. Try again")
        if generation is None:
            generation = catalog.add_generation(conn, target.service.provider, BUILDING)
        if request.in_place and target.action == "built":
            self._search.reindexing.forget(conn, [g.number for g in known if g.number != generation.number])
            catalog.reopen(conn, generation)
        owner = self._runs.begin(conn, generation, total=target.pending, batch_size=request.batch_size)
        self._job = Job(generation, target.service, request.batch_size, target.entities, owner)
        self._ranges.free(conn, [generation.number])
        if self._is_shared:
            self._ranges.add(conn, generation.number, bounds)
        return self._job

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
        """A lease that cannot be given back ends by itself."""
        number = self.generation.number
        try:
            self._search.committed(partial(self._give_back, number=number, phase=phase))
        except StorageError as error:
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
                for batch in self._building.pending(self._job, after=range_.after, upto=range_.upto):
                    self._do(batch)
                self._building.leave_range(self._job, range_)
            elif self._are_ranges_left():
                self._check_limits(())
                time.sleep(WAIT_S)
            else:
                return

    def _are_ranges_left(self) -> bool:
        self._note()
        with self._search.reading() as conn:
            return self._ranges.left(conn, self.generation.number) > 0

    def _drain(self) -> None:
        """What was written since, until nothing is; writers that never rest are left to be pending."""
        self._is_drained = False
        for _ in range(DRAINS):
            before = self._done
            for batch in self._building.pending(self._job):
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
        tokens = sum(provider.count_tokens(text) for text in {entry.content for entry in batch})
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
        with self._search.reading() as conn:
            bounds = self._store.bounds(conn, ROWS_A_RANGE)
        for after, upto in pairwise([None, *bounds, None]):
            self._search.committed(partial(self._copy_piece, source=source, target=target, after=after, upto=upto))

    def _copy_piece(self, conn: Connection, *, source: Generation, target: Generation, after: Any, upto: Any) -> None:
        self._runs.note(conn, target.number, self._owner)
        self._store.copy_embeddings(conn, source, target, without=self._request.entities, after=after, upto=upto)

    # index, gate, switch

    def _index(self, generation: Generation) -> None:
        started = time.perf_counter()
        self._note(phase=INDEXING)
        with self._store.translating():
            is_built = self._store.index_vectors(
                generation, concurrently=self._request.concurrent_index, progress=self._watch
            )
        if is_built:
            self._counts.indexing_s = time.perf_counter() - started
            seconds = self._counts.indexing_s
            self._search.committed(lambda conn: self._runs.add_indexing(conn, generation.number, self._owner, seconds))

    def _watch(self, seen: IndexProgress) -> None:
        """Also keeps the lease, which no batch renews meanwhile."""
        self._note()
        waits = f", waits for process {seen.waits_for}" if seen.waits_for else ""
        self._tell(f"{INDEXING} ({seen.phase}{waits})" if seen.phase else INDEXING, seen.done, seen.total)

    def _note(self, **changes: str) -> None:
        """In the run's row. Raises Halted where that says so."""
        number = self.generation.number
        if self._search.committed(lambda conn: self._runs.note(conn, number, self._owner, **changes)):
            raise Halted("cancelled")

    def _check_has_vectors(self, generation: Generation) -> None:
        """A model that refuses every text would take the vectors from a search that has some."""
        before, made = self._target.active, self._counts.report
        if before is None or made.embedded or made.reused:
            return
        with self._search.reading() as conn:
            texts = self._search.reindexing.pending(conn, None, ())
            has_vectors = [self._vectors(conn, holds, texts) > 0 for holds in (generation, before)]
        if has_vectors == [False, True]:
            raise ReindexRefused(
                f"{generation.model_name} refused every text, so generation {generation.number} is not switched to: "
                f"{made.failures[0][1] if made.failures else 'an earlier run was refused'}. `kameleon embeddings "
                "prune` drops it, then reindex once the model answers"
            )

    def _vectors(self, conn: Connection, generation: Generation, texts: int) -> int:
        found = self._store.status(conn, generation, has_provider=True)
        return texts - sum(status.pending + status.failed for status in found)

    def _compare(self, generation: Generation) -> None:
        gate = self._request.gate
        if not isinstance(gate, Gate):
            return
        with self._search.reading() as conn:
            before = active(self._search.catalog.generations(conn))
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
        with self._search.reading() as conn:
            rows = sum(status.indexed for status in self._store.status(conn, None, has_provider=False))
            for after in [None, *self._store.bounds(conn, max(1, rows // GATE_QUERIES))]:
                found, _ = self._store.pending(conn, None, after=after, limit=1)
                yield from (entry.content for entry in found)

    def _ranking(self, generation: Generation) -> Callable[[str], list[Ref]]:
        service = self._search.services.of_generation(generation)
        alone = [replace(generation, state=ACTIVE)]

        def ranking(text: str) -> list[Ref]:
            self._note()
            with self._search.reading() as conn:
                retriever = Retriever(self._store, service, lambda asked, said: asked.embed_query(said), alone, {}, "")
                return [Ref(hit.entity, hit.id) for hit in retriever.search(conn, ask(text))]

        return ranking

    def _switch(self, generation: Generation) -> None:
        """Writers that chose the old generation before are waited for, so that the drain which follows meets them."""
        self._search.committed(partial(self._make_active, generation=generation))
        self._switched = True
        log.info("reindex: switched generation=%d model=%s", generation.number, generation.model_name)
        with self._store.translating():
            if not self._store.wait_for_readers():
                self._notes.append(
                    "a transaction from before the switch is still open: what it commits is pending until `kameleon "
                    "embeddings sync`"
                )

    def _sweep(self, generation: Generation) -> None:
        """Embeddings of records that a transaction deleted which did not know of this generation yet."""
        after: Any = None
        while True:
            with self._search.reading() as conn:
                keys, after = self._store.leftovers(conn, generation, after, self._request.batch_size)
            if not keys:
                return
            self._search.committed(partial(self._store.drop_embeddings, generation=generation, keys=keys))

    def _make_active(self, conn: Connection, generation: Generation) -> None:
        self._store.lock_registry(conn, is_first=True)
        if self._runs.note(conn, generation.number, self._owner):
            raise Halted("cancelled")
        self._search.catalog.switch(conn, generation)

    def _drop_others(self) -> None:
        pruned = self._search.reindexing.prune()
        for generation in pruned.waiting:
            self._notes.append(
                f"the table of generation {generation.number} may be read by a transaction that is still open: "
                "`kameleon embeddings prune` drops it later"
            )

    def _report(self, generation: Generation) -> ReindexReport:
        counts, target = self._counts, self._target
        pending = 0
        if not self._is_drained:
            with self._search.reading() as conn:
                pending = self._search.reindexing.pending(conn, generation, target.entities)
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
