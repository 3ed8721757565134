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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Unpack

from sqlalchemy import Connection

from ..errors import InvalidInput, NoProvider, ProviderError, ReindexRefused, UnknownEntity, VectorsUnavailable
from ..indexing.caching import forget
from ..indexing.index import Index
from ..orm.queries import Queries
from ..stores.catalog import ACTIVE, active, current, of_fingerprint
from ..values import BUILDING, Generation, ReindexPlan, ReindexReport, ReindexRun
from .building import Building
from .request import PhaseProgress, ReindexOptions, Request, Target
from .run import Run

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService

log = logging.getLogger("kameleon.reindex")


@dataclass(frozen=True)
class PruneReport:
    """Generations whose tables are gone, and those whose table a transaction that is still open may be reading: the
    next prune drops these."""

    dropped: tuple[Generation, ...] = ()
    waiting: tuple[Generation, ...] = ()


class Reindexing:
    """Generations of one index: what users reach as `search.reindexing`."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.building = Building(index)
        self._store = index.store
        self._catalog = index.catalog
        self._services = index.services
        self._runs = self.building.runs

    def run(self, request: Request) -> ReindexReport:
        run, notes = self.index.retried(partial(self._begun, request))
        report = run.go() if isinstance(run, Run) else run
        return replace(report, notes=(*notes, *report.notes))

    def _begun(self, request: Request) -> "tuple[Run | ReindexReport, tuple[str, ...]]":
        """A run that has the lease, or why there is nothing for one to do; and what was changed in the registry."""
        target = self.target(request)
        notes = self._take_options(target)
        target = self.target(request) if notes else target
        if target.action == "nothing":
            note = f"{target.service.provider.model_name} is the index's model and nothing is pending"
            number = target.generation.number if target.generation else None
            return ReindexReport("nothing", number, target.service.provider.model_name, notes=(note,)), notes
        self._check(target, request)
        if request.force:
            self._forget_cached(target.service.provider.fingerprint)
        run = Run(self, request, target)
        run.begin()
        return run, notes

    def _take_options(self, target: Target) -> tuple[str, ...]:
        """Where the same model is opened with other options than the registry has, such as another path, the registry
        takes these."""
        generation, provider = target.generation, target.service.provider
        same = generation is None or (generation.provider, generation.options) == (provider.name, provider.options)
        if generation is None or same or not provider.name:
            return ()
        self.index.committed(lambda conn: self._catalog.set_options(conn, generation, provider))
        options = ", ".join(f"{name}={value}" for name, value in provider.options.items()) or "no options"
        return (f"generation {generation.number} has the same model: it is opened with {options} from here on",)

    def _forget_cached(self, fingerprint: str) -> None:
        """What is embedded anew is not looked up, by this process or by one that helps."""
        table = self._store.tables.embedding_cache
        while self.index.committed(partial(forget, table=table, fingerprint=fingerprint)):
            pass

    def target(self, request: Request) -> Target:
        """What a request comes to; reads only. Raises InvalidInput, UnknownEntity, NoProvider, VectorsUnavailable."""
        with self.index.reading() as conn:
            known = self._catalog.generations(conn)
            service = self._service(known, request)
            service.identify()
            self._check_dimensions(conn, service, request)
            self._check_entities(conn, known, service, request)
            return self._chosen(conn, known, service, request)

    def _chosen(
        self, conn: Connection, known: Sequence[Generation], service: "EmbeddingService", request: Request
    ) -> Target:
        fingerprint = service.provider.fingerprint
        half = next((g for g in reversed(known) if g.fingerprint == fingerprint and g.state == BUILDING), None)
        generation = half if half is not None or request.force else of_fingerprint(known, fingerprint)
        copies = active(known) if request.force and request.entities else None
        entities = request.entities if generation is not None and generation.state == ACTIVE else ()
        pending = self.pending(conn, generation, request.entities)
        return Target(service, generation, active(known), pending, entities, copies)

    def pending(self, conn: Connection, generation: Generation | None, entities: Sequence[str]) -> int:
        found = self._store.embeddings.status(conn, generation, has_provider=True)
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
        from ..embeddings import LOCAL, chosen

        holds = current(known)
        if request.provider is None and request.model is None:
            if holds is None or not holds.provider:
                raise InvalidInput("dimensions alone name no model: say which provider= or model= is to have them")
            options = dict(holds.options)
            if holds.provider not in LOCAL:
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
        if refusal := self._store.vectors.refusal(conn, gives):
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
        there = [status.entity for status in self._store.embeddings.status(conn, None, has_provider=False)]
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

        return estimate(self, Request(self.index.part(Queries).names(entities), **options), rate=rate)

    # what else is done with generations

    def rollback(self, *, progress: PhaseProgress | None = None) -> ReindexReport:
        """Make the generation that was active before the active one again, then embed what was written since. Raises
        ReindexRefused where there is none."""
        to = self.index.committed(self._go_back)
        with self._store.connections.translating():
            self._store.schema.wait_for_readers()
        log.info("reindex: rolled_back generation=%d model=%s", to.number, to.model_name)
        with self.index.reading() as conn:
            pending = self.pending(conn, to, ())
        report = ReindexReport("rolled back", to.number, to.model_name, pending=pending, switched=True)
        try:
            target = Target(self._services.of_generation(to), replace(to, state=ACTIVE), to, pending)
            run = Run(self, Request(progress=progress), target)
            self.index.retried(run.begin)
            filled = run.go()
        except (ProviderError, ReindexRefused) as error:
            return replace(report, notes=(f"{pending} records are pending: {error}",) if pending else ())
        return replace(filled, action="rolled back", switched=True)

    def _go_back(self, conn: Connection) -> Generation:
        self._store.schema.lock_registry(conn, is_first=True)
        to = self._catalog.retired_last(conn)
        if to is None:
            raise ReindexRefused("there is no generation to go back to: none was switched from, or it was pruned")
        self._catalog.switch(conn, to)
        return to

    def prune(self) -> PruneReport:
        """Drop every generation but the active one and those that are being built at this moment."""
        self.index.committed(self._forget_others)
        return self.drop_tables()

    def _forget_others(self, conn: Connection) -> None:
        self._store.schema.lock_registry(conn, is_first=True)
        known = self._catalog.generations(conn)
        kept = {holds.number for holds in (current(known),) if holds} | self._runs.held(conn).keys()
        self.forget(conn, [g.number for g in known if g.number not in kept])

    def forget(self, conn: Connection, numbers: Sequence[int]) -> None:
        self._catalog.forget(conn, numbers)
        self._runs.forget(conn, numbers)
        self.building.ranges.free(conn, numbers)

    def drop_tables(self) -> PruneReport:
        """Of generations that are forgotten."""
        with self.index.reading() as conn:
            there = self._store.schema.embedding_tables(conn)
            forgotten = [g for g in self._catalog.dropped(conn) if g.number in there]
        dropped, waiting = list[Generation](), list[Generation]()
        for generation in forgotten:
            with self._store.connections.translating():
                (dropped if self._store.schema.drop_generation(generation) else waiting).append(generation)
        return PruneReport(tuple(dropped), tuple(waiting))

    def cancel(self) -> list[str]:
        """Ask the runs that are under way, on any machine, to stop after their batch; tells whose they are."""
        return self.index.committed(self._runs.cancel)

    def status(self) -> list[ReindexRun]:
        """The runs that are known, by generation, under way or not."""
        with self.index.reading() as conn:
            return self._runs.all(conn)
