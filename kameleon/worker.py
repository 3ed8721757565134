"""Makes the embeddings that commits left for later: `kameleon embeddings worker`, on any number of machines. Imports
`values`, `errors`, `telemetry`, `forking`, `stores`, `orm` and `engine`.

A claim is a lease: a worker that dies loses it when it ends, and another does the work once more, to the same effect.
No transaction is open while the provider works; an edit made meanwhile wins, and is claimed again.
"""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from threading import Event

from .engine import SearchEngine
from .errors import KameleonError
from .forking import per_process
from .orm.syncing import index_marked
from .stores.claims import CLAIM_LEASE, worker_name
from .telemetry import operation
from .telemetry.measures import TAKEN, TASK, WORK
from .values import IndexReport

log = logging.getLogger("kameleon.worker")

LONGEST_PAUSE_S = 60.0
"""Bounds the wait after a failed claim. Chosen, not measured."""
INDEX_CHECKED_EVERY_S = 60.0
"""How often a worker that has nothing else to do checks whether the vector index is missing. Chosen, not measured."""
DUE_EVERY_S = 60.0
"""How often a worker that has nothing else to do looks for folds that others left: all keys of the tail are counted.
Chosen, not measured."""
PURGED_EVERY_S = 24 * 3600.0
"""Bounds how long deleted texts stay in the keyword index and the cache."""


class Worker:
    """`batch_size` records a claim; `lease_s` is how long a claim holds, longer than such a batch takes."""

    def __init__(
        self, search: SearchEngine, *, batch_size: int = 500, lease_s: float = CLAIM_LEASE.total_seconds()
    ) -> None:
        self.search = search
        self._index = search.index
        self.batch_size = batch_size
        self.lease: timedelta = timedelta(seconds=lease_s)
        self._has_trimmed = False
        self._purge_next = self._due_next = 0.0
        self._index_vectors_next = 0.0

    @per_process
    def name(self) -> str:
        """Identifies this worker in `kdb_queue`."""
        return worker_name()

    def work(self) -> IndexReport | None:
        """A batch of marked rows, or one claim's worth, or a range of a generation that `reindex` is building; None if
        nothing is due."""
        if (report := index_marked(self._index, self.batch_size, worker=self.name, lease=self.lease)) is not None:
            return report
        claimed = self._index.filling.claim(self.name, limit=self.batch_size, lease=self.lease)
        if not claimed:
            self._trim_cache()
            self._maintain()
            self._index_vectors()
            return self.search.reindexing.building.help_out()
        most = max(claim.attempts for claim in claimed)
        pause = timedelta(seconds=min(LONGEST_PAUSE_S, 2.0**most))
        with operation(WORK, attributes={TASK: "queue", TAKEN: len(claimed)}):
            return self._index.filling.work_off(claimed, pause=pause)

    def _trim_cache(self) -> None:
        """Evict from the whole cache once, when nothing else is due, then as often as this worker writes enough."""
        self._index.services.evict(is_whole=not self._has_trimmed)
        self._has_trimmed = True

    def _maintain(self) -> None:
        """Fold and merge keywords; once a day purge what was deleted."""
        now = time.monotonic()
        if now < self._due_next:
            return
        self._due_next = now + DUE_EVERY_S
        if now < self._purge_next:
            self._index.keywords.maintain_all()
            return
        self._purge_next = now + PURGED_EVERY_S
        self.search.admin.purge()

    def _index_vectors(self) -> None:
        """Build the vector index where it is missing; where that fails, searches go on without it."""
        if time.monotonic() < self._index_vectors_next:
            return
        self._index_vectors_next = time.monotonic() + INDEX_CHECKED_EVERY_S
        try:
            self._index.index_vectors()
        except KameleonError as error:
            log.warning("worker: the vector index is not built now: %s", error)

    def run(
        self,
        stop: Event | None = None,
        *,
        poll_s: float | None = None,
        done: Callable[[IndexReport], None] = lambda _report: None,
    ) -> IndexReport:
        """Work until nothing is due; with `poll_s` look again after that many seconds, until `stop` is set. A batch
        that was begun is finished; `done` is called with each report."""
        stop = stop or Event()
        total = IndexReport()
        while not stop.is_set():
            if (report := self.work()) is not None:
                done(report)
                total += report
            elif poll_s is None:
                break
            else:
                stop.wait(poll_s)
        return total
