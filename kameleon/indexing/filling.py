"""Makes the embeddings that are missing: all that are pending, or those that a worker claims from the queue. Imports
`values`, `errors`, `embeddings` and `stores`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from ..embeddings.options import outside
from ..errors import ModelMismatch, NoProvider, ProviderUnavailable, VectorsUnavailable
from ..stores import claims
from ..stores.catalog import Catalog, mismatch, written_generation
from ..stores.claims import Claim
from ..stores.protocols import Store
from ..stores.transactions import Transactions
from ..stores.values import Entry
from ..values import Generation, IndexReport, Ref, Tenants
from .services import Services
from .writer import Plan, Progress, Writer

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService


class Filling:
    def __init__(
        self, transactions: Transactions, store: Store, catalog: Catalog, writer: Writer, services: Services
    ) -> None:
        self._transactions = transactions
        self._store = store
        self._catalog = catalog
        self._writer = writer
        self._services = services

    def fill(
        self, *, batch_size: int, retry_failed: bool, progress: Progress | None, tenants: Tenants = None
    ) -> IndexReport:
        """Embed what is pending, a batch a transaction; an outage ends it."""
        try:
            service = self._service()
        except ProviderUnavailable as error:
            return IndexReport(pending=self._count(None, retry_failed, tenants), outage=str(error))
        total = self._count(service, retry_failed, tenants)
        if service.is_given:
            return IndexReport(pending=total, outage=outside(service.provider.model_name) if total else None)
        report = IndexReport()
        failing: set[Ref] = set()
        for batch in self._pending(service, batch_size, retry_failed, failing, tenants):
            plan = self._embedded(batch, service)
            failing.update(embedding.ref for embedding in plan.embeddings if embedding.is_undecided)
            done = self._transactions.committed(partial(self._writer.apply, plan=plan), tenants or ())
            report += replace(done, unchanged=0)
            tried = report.embedded + report.reused + report.failed
            if progress:
                progress(tried, total)
            if done.outage:
                return replace(report, pending=max(0, total - tried))
        return report

    def _count(self, service: "EmbeddingService | None", retry_failed: bool, tenants: Tenants) -> int:
        with self._transactions.reading(tenants=tenants or ()) as conn:
            generations = self._catalog.generations(conn)
            generation = (
                written_generation(generations, service.provider.fingerprint)
                if service
                else self._services.reported(generations)
            )
            found = self._store.embeddings.status(conn, generation, has_provider=True, tenants=tenants)
        return sum(status.pending + retry_failed * status.failed for status in found)

    def _service(self) -> "EmbeddingService":
        """Raises NoProvider, ModelMismatch, VectorsUnavailable where nothing can be filled in."""
        with self._transactions.reading() as conn:
            generations = self._catalog.generations(conn)
            service = self._services.of(generations)
            if service is None:
                raise NoProvider
            if refusal := self._store.vectors.refusal(conn, service.provider.dimensions):
                raise VectorsUnavailable(refusal)
        self._filled_generation(generations, service)
        return service

    def _embedded(self, batch: Sequence[Entry], service: "EmbeddingService") -> Plan:
        return self._writer.embed(Plan(batch, (), batch, service, enqueues=False), cache=self._services.cache(service))

    def claim(self, worker: str, *, limit: int, lease: timedelta) -> list[Claim]:
        """Records whose embedding is left to a worker: this one's until the lease ends."""
        with self._transactions.transaction() as conn:
            return claims.claim(
                conn,
                self._store.tables.queue,
                worker,
                limit=limit,
                now=datetime.now(UTC),
                lease=lease,
                may_skip=self._store.connections.can_lock_rows(),
            )

    def work_off(self, claimed: Sequence[Claim], *, pause: timedelta) -> IndexReport:
        """Embed claimed records as they stand, no transaction open meanwhile, and take them out of the queue; not
        before `pause` is over where the provider is down. What was edited since stays in the queue."""
        try:
            service = self._service()
        except ProviderUnavailable as error:
            self._put_off(claimed, pause)
            return IndexReport(pending=len(claimed), outage=str(error))
        with self._transactions.reading() as conn:
            batch = self._store.contents.entries(conn, [claim.ref for claim in claimed])
            compared = self._writer.compare(conn, batch, service, self._catalog.generations(conn))
        compared = replace(compared, changed=(), enqueues=False)  # these are the index's own contents
        plan = self._writer.embed(compared, cache=self._services.cache(service))
        made = {embedding.ref for embedding in plan.embeddings if not embedding.is_undecided}
        left = {entry.ref for entry in plan.to_embed} - made

        def write(conn: Connection) -> IndexReport:
            if self._services.has_moved(self._catalog.generations(conn), service):
                claims.put_off(conn, self._store.tables.queue, claimed, datetime.now(UTC))
                return IndexReport(pending=len(claimed))
            report = self._writer.apply(conn, plan)
            claims.finish(conn, self._store.tables.queue, [claim for claim in claimed if claim.ref not in left])
            until = datetime.now(UTC) + pause
            claims.put_off(conn, self._store.tables.queue, [claim for claim in claimed if claim.ref in left], until)
            return report

        return self._transactions.committed(write)

    def _put_off(self, claimed: Sequence[Claim], pause: timedelta) -> None:
        until = datetime.now(UTC) + pause
        self._transactions.committed(lambda conn: claims.put_off(conn, self._store.tables.queue, claimed, until))

    def _pending(
        self,
        service: "EmbeddingService",
        batch_size: int,
        retry_failed: bool,
        tried: set[Ref],
        tenants: Tenants,
    ) -> Iterator[list[Entry]]:
        """Each batch read in a transaction of its own, so that none stays open while the provider works. What was
        refused comes first: what is refused again is not met a second time. What the server failed on before comes
        last, but for those that were `tried` by then. Ends where the index moves to another model meanwhile."""
        for is_failed, is_tried in ((True, None), (False, False), (False, True))[not retry_failed :]:
            after: Any = None
            while True:
                with self._transactions.reading(tenants=tenants or ()) as conn:
                    generations = self._catalog.generations(conn)
                    if self._services.has_moved(generations, service):
                        return
                    generation = self._filled_generation(generations, service)
                    batch, after = self._store.embeddings.pending(
                        conn,
                        generation,
                        after=after,
                        limit=batch_size,
                        is_failed=is_failed,
                        is_tried=is_tried,
                        tenants=tenants,
                    )
                if not batch:
                    break
                if untried := [entry for entry in batch if entry.ref not in tried]:
                    yield untried

    def _filled_generation(self, generations: Sequence[Generation], service: "EmbeddingService") -> Generation | None:
        if problem := mismatch(generations, service.provider):
            raise ModelMismatch(f"nothing can be filled in: {problem}")
        return written_generation(generations, service.provider.fingerprint)
