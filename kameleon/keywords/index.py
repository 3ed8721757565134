"""`KeywordIndex`: the keyword index of one database, as the write path and the search use it. Imports `values`,
`errors`, `forking`, `analysis` and `stores`."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from ..analysis.analyser import Analyser, analyser
from ..analysis.spelling import JOINTS, parted
from ..analysis.terms import Terms
from ..errors import KameleonError
from ..forking import per_process
from ..stores.protocols import Store
from ..stores.search_protocols import TermsRow
from ..stores.values import Entry, Scope, Written
from ..values import Ref, Tenants
from .cache import SegmentCache
from .dialect import Partition, Partitions
from .folding import Maintenance
from .looking_up import Found, LookUp, Wanted
from .named import possible_ids, with_records
from .packing import Document
from .server import ServerLookUp, completions
from .vocabulary import OFFERED, Vocabulary, Word
from .writing import append, bury

CHECKED_FROM = 64
"""Bounds the records written to a partition until it is looked whether a fold is due. Chosen, not measured."""
RECORDS_A_STEP = 32
"""Bounds from below the records written for each step of folds and merges but the first. Chosen, not measured."""

log = logging.getLogger("kameleon.keywords")


class Analysed(NamedTuple):
    """The terms of an entry."""

    content: Terms
    emphasis: Terms | None = None


class KeywordIndex:
    """Of one engine. Threads may share it. `_due` counts by partition what was written since it was last looked whether
    a fold is due; `_ready` are those to look at."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._cache = SegmentCache()
        self._maintenance = Maintenance(engine, store.postings, store.tables.keywords)
        self._due: Counter[Partition] = Counter()
        self._ready: set[Partition] = set()

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    @property
    def analyser(self) -> Analyser:
        return analyser(self._store.language)

    # writing

    def analysed(self, entries: Iterable[Entry]) -> list[Analysed]:
        """The terms of each entry. Reads no database."""
        terms = self.analyser.terms
        return [
            Analysed(
                terms(*(e.keyword_text if e.extent.keywords_from else (e.content, e.gaps))),
                terms(e.emphasis) if e.emphasis else None,
            )
            for e in entries
        ]

    def write(
        self,
        connection: Connection,
        entries: Sequence[Entry],
        written: Mapping[Ref, Written],
        analysed: Sequence[Analysed],
    ) -> None:
        """Adds the documents of entries in the transaction that stored them, and marks those that they replace."""
        if (server := self._store.ranking_server) is not None:
            rows = [TermsRow(e.ref, written[e.ref].doc, *terms) for e, terms in zip(entries, analysed, strict=True)]
            server.write(connection, rows)
            return
        documents: dict[Partition, list[Document]] = {}
        replaced: list[tuple[Ref, int]] = []
        for entry, (content, emphasis) in zip(entries, analysed, strict=True):
            doc, before = written[entry.ref]
            partition = Partition(entry.ref.tenant, entry.ref.entity)
            documents.setdefault(partition, []).append(Document(doc, content, emphasis))
            if before is not None:
                replaced.append((entry.ref, before))
        append(connection, self._store.postings, documents)
        self._note({partition: len(group) for partition, group in documents.items()})
        self.bury(connection, replaced)

    def bury(self, connection: Connection, deleted: Iterable[tuple[Ref, int]]) -> None:
        """Marks the documents of records that this transaction replaced or deleted."""
        if (server := self._store.ranking_server) is not None:
            server.delete(connection, [ref for ref, _ in deleted])
            return
        gone: dict[Partition, list[int]] = {}
        for ref, doc in deleted:
            gone.setdefault(Partition(ref.tenant, ref.entity), []).append(doc)
        bury(connection, self._store.postings, gone)
        self._note({partition: len(docs) for partition, docs in gone.items()})

    def _note(self, records: Mapping[Partition, int]) -> None:
        with self._lock:
            self._due.update(records)
            self._ready.update(partition for partition in records if self._due[partition] >= CHECKED_FROM)

    # folds and merges

    def maintain(self) -> None:
        """Makes the steps of folds and merges that are due, as many as what was written pays for. Not inside a
        transaction; never raises."""
        with self._lock:
            due = {partition: self._due.pop(partition) for partition in sorted(self._ready)}
            self._ready.clear()
        for partition, records in due.items():
            steps = 1 + records // RECORDS_A_STEP
            if all(self._maintenance.step(partition) for _ in range(steps)):
                self._note({partition: CHECKED_FROM})

    def maintain_all(self, *, purges: bool = False) -> int:
        """Makes all steps that are due in any partition; how many. `purges` also takes deleted documents out of each
        tail and merges each segment with some. Not inside a transaction; never raises."""
        try:
            with self._store.connections.translating(), self._store.connections.reading() as connection:
                partitions = self._maintenance.due(connection, purges)
        except KameleonError as error:
            log.debug("keywords are not folded now: %s", error)
            return 0
        return sum(self._maintenance.run(partition, purges=purges) for partition in partitions)

    def forget(self) -> None:
        """Forgets the words and postings that are in memory."""
        self._cache = SegmentCache()

    # reading

    def search(self, connection: Connection, scope: Scope, wanted: Wanted) -> Found:
        """What a query finds in the records of the scope's entities; ranked in the server, in the scope. Records of the
        record store whose ids are words of it come first."""
        if (server := self._store.ranking_server) is not None:
            found = ServerLookUp(self.analyser, server, connection, scope, wanted).run()
        else:
            partitions = Partitions(scope.tenants, scope.entities)
            found = LookUp(self.analyser, self._store.postings, self._cache, connection, partitions, wanted).run()
        if scope.tenants is None or not (ids := possible_ids(wanted.text, found)):
            return found
        docs = self._store.contents.named(connection, scope.tenants, scope.entities, ids)
        return with_records(found, docs) if docs else found

    def suggest(
        self, connection: Connection, tenants: Tenants, entities: Sequence[str], text: str, limit: int
    ) -> list[str]:
        """The text with its last word completed to words of records of these tenants and entities, all where none is
        named, those in most of them first."""
        completed = self._completions(connection, Partitions(tenants, tuple(entities)))
        before, word = parted(text)
        code = text.split()[-1] if text and not text[-1].isspace() else ""
        if not word:
            return self._completed_codes(completed, text.removesuffix(code), code.lower(), limit)
        for beginning, last in dict.fromkeys([(text.removesuffix(code), code), (before, word)]):
            prefixes = self.analyser.prefixes(last)
            words = completed(prefixes[0], limit) if prefixes else []
            if words:
                return [beginning + found.form for found in words]
        return []

    def _completed_codes(
        self, completed: Callable[[str, int], list[Word]], before: str, code: str, limit: int
    ) -> list[str]:
        """Completes a code that ends with a joint, by those that have it and by those that are written without."""
        if not code.endswith(JOINTS) or not (prefixes := self.analyser.prefixes(code)):
            return []
        codes = [found.form for found in completed(prefixes[0], OFFERED) if not found.form.isalpha()]
        having = [form for form in codes if form.startswith(code)]
        return [before + form for form in (having or codes)[:limit]]

    def _completions(self, connection: Connection, partitions: Partitions) -> Callable[[str, int], list[Word]]:
        if (server := self._store.ranking_server) is not None:
            return partial(completions, self.analyser, server, connection, partitions)
        return Vocabulary(connection, self._store.postings, self._cache, partitions, self.analyser.fold).completions
