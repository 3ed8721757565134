"""Re-embedding: moves an index to another model, or makes its embeddings again, while search and writing go on. Imports
`values`, `errors`, `embeddings`, `stores`, `indexing` and `orm`.

A run builds a *generation* beside the active one, in batches that each commit with their progress; then PostgreSQL's
vector index; then what was written meanwhile; then it switches, which is one statement on the registry. Until that
moment every query is answered from the old generation, from then on by the new one: no query compares vectors of two
models. The old one stays for `rollback` until `prune` or `drop_old`.

If a run is killed, run it again: it resumes after its last batch, and searches were answered from the old generation
meanwhile. Nothing else has to be repaired: what is missing in a generation is not stored but looked up, and the lease
of a run that died is free as soon as its process has ended (five minutes after its last batch, if it ran on another
machine).
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Unpack

from sqlalchemy import Connection

from ..embeddings.options import outside
from ..errors import InvalidInput, NoProvider, ProviderError, ReindexRefused, UnknownEntity, VectorsUnavailable
from ..indexing.caching import forget
from ..orm.queries import Queries
from ..stores.catalog import ACTIVE, active, current, of_fingerprint
from ..stores.values import WHOLE
from ..values import BUILDING, Generation, ReindexReport
from .estimating import ReindexPlan, estimate
from .registry import Registry
from .request import PhaseProgress, ReindexOptions, Request, Target
from .run import Run

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService

log = logging.getLogger("kameleon.reindex")


class Reindexing(Registry):
    """Generations of one index: `search.reindexing`."""

    def run(self, request: Request) -> ReindexReport:
        run, notes = self.index.retried(partial(self._begun, request))
        report = run.run() if isinstance(run, Run) else run
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
        self.index.committed(lambda conn: self.index.catalog.set_options(conn, generation, provider))
        options = ", ".join(f"{name}={value}" for name, value in provider.options.items()) or "no options"
        return (f"generation {generation.number} has the same model: it is opened with {options} from here on",)

    def _forget_cached(self, fingerprint: str) -> None:
        """What is embedded again is not looked up, by this process or by one that helps."""
        table = self._store.tables.embedding_cache
        while self.index.committed(partial(forget, table=table, fingerprint=fingerprint)):
            pass

    def target(self, request: Request) -> Target:
        """The target of a request; reads only. Raises InvalidInput, UnknownEntity, NoProvider, VectorsUnavailable."""
        with self.index.reading() as conn:
            generations = self.index.catalog.generations(conn)
            service = self._service(generations, request)
            if service.is_given:
                raise InvalidInput(f"nothing can be embedded again: {outside(service.provider.model_name)}")
            service.identify()
            self._check_dimensions(conn, service, request)
            self._check_part(conn, generations, service, request)
            return self._chosen(conn, generations, service, request)

    def _chosen(
        self, conn: Connection, generations: Sequence[Generation], service: "EmbeddingService", request: Request
    ) -> Target:
        fingerprint = service.provider.fingerprint
        unfinished = [g for g in generations if g.fingerprint == fingerprint and g.state == BUILDING]
        generation = unfinished[-1] if unfinished else None
        if generation is None and not request.force:
            generation = of_fingerprint(generations, fingerprint)
        copies = active(generations) if request.force and not request.part.is_whole else None
        part = request.part if generation is not None and generation.state == ACTIVE else WHOLE
        pending = self.pending(conn, generation, request.part)
        return Target(service, generation, active(generations), pending, part, copies)

    def _service(self, generations: Sequence[Generation], request: Request) -> "EmbeddingService":
        own = self.index.services.provider
        if request.provider is not None and not isinstance(request.provider, str):
            return self.index.services.of_provider(request.provider)
        if request.names_a_model:
            return self._named(generations, request)
        if own is not None and not isinstance(own, str):
            return self.index.services.of_provider(own)
        unfinished = [g for g in generations if g.state == BUILDING]
        generation = unfinished[-1] if unfinished else current(generations)
        if generation is not None:
            return self.index.services.of_generation(generation)
        if own is None:
            raise NoProvider
        return self.index.services.named(own)

    def _named(self, generations: Sequence[Generation], request: Request) -> "EmbeddingService":
        from ..embeddings import LOCAL, chosen

        generation = current(generations)
        if request.provider is None and request.model is None:
            if generation is None or not generation.provider:
                raise InvalidInput("dimensions alone name no model: give the provider= or model= that is to have them")
            options = dict(generation.options)
            if generation.provider not in LOCAL:
                options["dimensions"] = request.dimensions
            return self.index.services.named(generation.provider, **options)
        assert request.provider is None or isinstance(request.provider, str)  # noqa: S101 - an object was served before
        name, options = chosen(request.provider, request.model, request.dimensions)
        return self.index.services.named(name, **options)

    def _check_dimensions(self, conn: Connection, service: "EmbeddingService", request: Request) -> None:
        gives = service.provider.dimensions
        if request.dimensions is not None and gives != request.dimensions:
            raise InvalidInput(
                f"{service.provider.model_name} makes {gives} dimensions, {request.dimensions} were requested. Leave "
                "dimensions out, or name a model that makes them"
            )
        if refusal := self._store.vectors.refusal(conn, gives):
            raise VectorsUnavailable(refusal)

    def _check_part(
        self, conn: Connection, generations: Sequence[Generation], service: "EmbeddingService", request: Request
    ) -> None:
        if request.part.is_whole:
            return
        generation = active(generations)
        if generation is None:
            raise InvalidInput(
                "the index has no complete embeddings yet: reindex all of it, naming no entity and no tenant"
            )
        if generation.fingerprint != service.provider.fingerprint:
            names = ", ".join([*request.entities, *(f"the tenant {name!r:.80}" for name in request.part.tenants or ())])
            raise InvalidInput(
                f"{names} alone cannot move to {service.provider.model_name}: a change of model is for the whole "
                "index. Name no entity and no tenant"
            )
        found = self._store.embeddings.status(conn, None, has_provider=False, tenants=request.part.tenants)
        there = [status.entity for status in found]
        if not there and request.part.tenants is not None:
            names = " or ".join(f"{name!r:.80}" for name in request.part.tenants)
            raise InvalidInput(f"nothing of {names or 'no tenant'} is in the index: name it as it was indexed")
        if missing := [name for name in request.entities if name not in there]:
            raise UnknownEntity(
                f"nothing of {missing[0]!r} is in the index. It has: {', '.join(there) or 'no records'}"
            )

    def _check(self, target: Target, request: Request) -> None:
        """What would otherwise be found out after the first batch."""
        provider = target.service.provider
        if request.max_cost is not None and request.price(provider) is None:
            raise InvalidInput(f"max_cost needs price_per_million: the price of {provider.model_name} is not known")
        if request.gate is not None and target.active is not None:
            self.index.services.of_generation(target.active)
        if request.dimensions is not None and target.pending:
            target.service.embed_batch(["kameleon"], on_error="raise")

    def plan(self, *entities: object, rate: float | None = None, **options: Unpack[ReindexOptions]) -> ReindexPlan:
        """What `search.reindex` would do with the same arguments, and how long at `rate` records a second. Writes
        nothing and calls no provider. Raises what `target` does."""
        request = Request(self.index.part(Queries).names(entities), **options)
        return estimate(self, self.target(request), request, rate=rate)

    # what else is done with generations

    def rollback(self, *, progress: PhaseProgress | None = None) -> ReindexReport:
        """Make the generation that was active before the active one again, then embed what was written since. Raises
        ReindexRefused where there is none."""
        to = self.index.committed(self._go_back)
        with self._store.connections.translating():
            self._store.schema.wait_for_readers()
        log.info("reindex: rolled_back generation=%d model=%s", to.number, to.model_name)
        with self.index.reading() as conn:
            pending = self.pending(conn, to, WHOLE)
        report = ReindexReport("rolled back", to.number, to.model_name, pending=pending, switched=True)
        try:
            target = Target(self.index.services.of_generation(to), replace(to, state=ACTIVE), to, pending)
            run = Run(self, Request(progress=progress), target)
            self.index.retried(run.begin)
            filled = run.run()
        except (ProviderError, ReindexRefused) as error:
            return replace(report, notes=(f"{pending} records are pending: {error}",) if pending else ())
        return replace(filled, action="rolled back", switched=True)

    def _go_back(self, conn: Connection) -> Generation:
        self._store.schema.lock_registry(conn, is_first=True)
        to = self.index.catalog.retired_last(conn)
        if to is None:
            raise ReindexRefused("there is no generation to go back to: none was switched from, or it was pruned")
        self.index.catalog.switch(conn, to)
        return to
