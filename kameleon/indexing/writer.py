"""The one write path: compare, embed, apply. Imports `values`, `errors`, `embeddings`, `stores` and `keywords`.

`compare` reads what the index holds and leaves only what differs; `embed` calls the provider, holding no lock and no
transaction of ours; `apply` writes contents and embeddings in one transaction. Whatever happened in between is met by
the store: an embedding is kept only where its record still has the content that it was made from.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import Connection

from ..embeddings.passages import Places
from ..errors import InvalidInput, ProviderError, seen
from ..stores.catalog import Catalog, mismatch, written_generation
from ..stores.claims import rows_of
from ..stores.protocols import Store
from ..stores.values import Embedding, Entry, State
from ..values import MAX_FAILURES_SHOWN, Generation, IndexReport, Noise, Ref
from .classes import Standing
from .describing import count_records, writing
from .embedded import Ahead, counts, embeddings, flattened, merged, owners_of, positions, with_pieces
from .given import Given, is_stored, sampled_noise
from .moving import Move, located, move, moved
from .tenanted import Tenanted

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService
    from ..keywords.index import Analysed, KeywordIndex
    from .caching import StoredCache

Progress = Callable[[int, int], None]
Indexing = Literal["sync", "deferred", "auto"]

NOTHING: Mapping[Ref, Ref] = MappingProxyType({})
INDEXING = ("sync", "deferred", "auto")
UNREADABLE = "the index's own copy of this text cannot be read: index the record again"


def check_indexing(indexing: str) -> Indexing:
    if indexing not in INDEXING:
        raise InvalidInput(f"unknown indexing {seen(indexing)}. Known: {', '.join(INDEXING)}")
    return cast(Indexing, indexing)


@dataclass(frozen=True)
class Plan:
    """What a call has to write: `changed` of the `wanted` contents, those that `moved` to another tenant among them,
    and `to_embed`, whose embeddings `embeddings` holds once `service` made them. Of changed contents whose text to
    embed is as it was, `kept` are the hashes before: their embeddings stay. `analysed` are the terms of `changed`, None
    before. `standings` are those of classes that were not known in this `version` of the registry. `generations`
    are those as the transaction that applies it sees them, None before; `target` is the number of
    the one to write to, None for the service's own. Where that `lacks_noise`, `noise` is measured. With embeddings that
    are `given`, the provider is not called."""

    wanted: Sequence[Entry]
    changed: Sequence[Entry]
    to_embed: Sequence[Entry]
    service: "EmbeddingService | None" = None
    moved: Sequence[Move] = ()
    kept: Mapping[Ref, str] = field(default_factory=dict)
    embeddings: Sequence[Embedding] = ()
    cache: "StoredCache | None" = None
    outage: ProviderError | None = None
    is_deferred: bool = False
    enqueues: bool = True
    target: int | None = None
    generations: Sequence[Generation] | None = None
    given: Mapping[Ref, Sequence[Embedding]] | None = None
    lacks_noise: bool = False
    noise: Noise | None = None
    analysed: "Sequence[Analysed] | None" = None
    standings: Mapping[str, Standing] = field(default_factory=dict)
    version: str = ""
    report: IndexReport = field(default_factory=IndexReport)

    @property
    def left(self) -> list[Ref]:
        """Those without an embedding, which a worker is to make."""
        if not self.enqueues:
            return []
        made = {embedding.ref for embedding in self.embeddings}
        return [entry.ref for entry in self.to_embed if entry.ref not in made]


class Writer:
    def __init__(self, store: Store, catalog: Catalog, keywords: "KeywordIndex", tenanted: Tenanted) -> None:
        self._store = store
        self._catalog = catalog
        self._keywords = keywords
        self._tenanted = tenanted

    def compare(
        self,
        connection: Connection,
        wanted: Sequence[Entry],
        service: "EmbeddingService | None",
        generations: Sequence[Generation],
        unique: Collection[str] = (),
        former: Mapping[Ref, Ref] = NOTHING,
        *,
        is_altered: bool = False,
        given: Given | None = None,
    ) -> Plan:
        """Without a service, or where the index holds another model's embeddings, nothing is to be embedded. What is
        there of `unique` entities under another tenant moves, and so does what is there of an entry under its `former`
        ref."""
        generation = written_generation(generations, service.provider.fingerprint) if service else None
        if movable := [entry for entry in wanted if entry.ref.entity in unique]:
            states, moves = located(connection, self._store, movable, generation)
        else:
            states, moves = {}, []
        if len(movable) < len(wanted):
            refs = [entry.ref for entry in wanted if entry.ref.entity not in unique]
            states |= self._store.contents.states(connection, refs, generation)
        if former:
            moves += moved(connection, self._store, wanted, former, generation)
        embedded = {ref: state.embedded_hash for ref, state in states.items()}
        embedded |= {move.new: move.embedded_hash for move in moves if move.is_same_text}
        changed = [e for e in wanted if e.ref not in states or states[e.ref].content_hash != e.content_hash]
        kept = self._kept(connection, changed, states, is_altered=is_altered)
        to_embed: list[Entry] = []
        if service and not mismatch(generations, service.provider):
            made_from = {e.ref: kept.get(e.ref, e.content_hash) for e in wanted if e.content_hash}
            to_embed = [e.embedded for e in wanted if e.content_hash and embedded.get(e.ref) != made_from[e.ref]]
        lacks_noise = generation is None or generation.noise is None
        plan = Plan(wanted, changed, to_embed, service, moves, kept, lacks_noise=lacks_noise)
        return plan if given is None else self._with_given(connection, plan, given, generation)

    def _with_given(self, connection: Connection, plan: Plan, given: Given, generation: Generation | None) -> Plan:
        """The plan with the caller's embeddings. Of contents that have one already, those alone that differ from it."""
        assert plan.service is not None  # noqa: S101 - the caller looked
        provider = plan.service.provider
        rows = {e.ref: given.checked(e.embedded, provider) for e in plan.wanted if e.ref in given.embeddings}
        new = {entry.ref for entry in (*plan.to_embed, *plan.changed)}
        again = [ref for ref in rows if ref not in new]
        stored: dict[Ref, list[Embedding]] = {}
        if generation is not None and again:
            for each in self._store.exports.embeddings_of(connection, generation, again):
                stored.setdefault(each.ref, []).append(each)
        known = {entry.ref for entry in plan.to_embed}
        differ = {ref for ref in rows if ref not in known and not is_stored(rows[ref], stored.get(ref, ()))}
        to_embed = [*plan.to_embed, *(entry.embedded for entry in plan.wanted if entry.ref in differ)]
        return replace(plan, to_embed=to_embed, given=rows)

    def _kept(
        self, connection: Connection, changed: Sequence[Entry], states: Mapping[Ref, State], *, is_altered: bool
    ) -> dict[Ref, str]:
        """The hashes of stored contents whose text to embed is that of the changed ones. Only where a part of a text is
        for keywords alone, or the entity `is_altered`, can that be."""
        entries = {e.ref: e for e in changed if e.ref in states and (is_altered or e.extent.vectors_to is not None)}
        if not entries:
            return {}
        stored = self._store.contents.entries(connection, list(entries))
        same = [e for e in stored if e.content_hash and e.embedded.content == entries[e.ref].embedded.content]
        return {e.ref: e.content_hash for e in same if entries[e.ref].content_hash}

    def embed(
        self,
        plan: Plan,
        *,
        progress: Progress | None = None,
        cache: "StoredCache | None" = None,
        ahead: Ahead | None = None,
    ) -> Plan:
        """The plan with its embeddings, those of `ahead` and those that are missing there. Raises nothing for a refused
        text or an outage, which are in `report`. What the server failed on is left out where a worker is to try it
        again; elsewhere it is counted."""
        if not plan.to_embed or plan.service is None:
            return plan
        if plan.given is not None or plan.service.is_given:
            return with_given(plan)
        try:
            made = self._embed(plan, progress, cache, ahead)
            if plan.lacks_noise and made.outage is None:
                made = replace(made, noise=plan.service.noise())
        except ProviderError as error:
            report = IndexReport(pending=len(plan.to_embed), outage=str(error))
            return replace(plan, outage=error, report=report)
        if not plan.enqueues:
            return made
        return replace(made, embeddings=[each for each in made.embeddings if not each.is_undecided])

    def _embed(self, plan: Plan, progress: Progress | None, cache: "StoredCache | None", ahead: Ahead | None) -> Plan:
        assert plan.service is not None  # noqa: S101 - the caller looked
        if not all(entry.content for entry in plan.to_embed):
            return self._embed_readable(plan, progress, cache, ahead)
        is_usable = ahead is not None and ahead.service is plan.service and ahead.made is not None
        before = ahead if ahead is not None and is_usable else Ahead(plan.service)
        contents = [entry.content for entry in plan.to_embed]
        new = [content for content in contents if content not in before.split and content not in before.places]
        split: Places = {**before.split, **plan.service.split(new)}
        texts = flattened(contents, split)
        missing = [text for text in texts if text not in before.places]
        if cache is not None:
            cache.owners = owners_of([(entry.ref.tenant, entry.content) for entry in plan.to_embed], split)
        made = before.made
        if missing and not (made and made.outage):
            made = plan.service.embed_batch(
                missing,
                on_error="collect",
                progress=progress and self._by_record(progress, plan, split),
                cache=cache,
            )
        assert made is not None  # noqa: S101 - nothing is missing that was not made before
        if before.made is not None:
            made = merged(texts, before, made)
        split, made = with_pieces(plan.to_embed, split, made)
        return replace(
            plan,
            embeddings=list(embeddings(plan.to_embed, split, made)),
            cache=cache,
            outage=made.outage,
            report=counts(plan.to_embed, split, made),
        )

    @staticmethod
    def _by_record(progress: Progress, plan: Plan, split: Places) -> Callable[[int], None]:
        """Progress that takes a count of texts and reports the records whose texts these are."""
        total = len(plan.wanted)
        done = total - len(plan.to_embed)
        ends = [place.stop for _, place in positions(plan.to_embed, split)]
        return lambda texts: progress(done + bisect_right(ends, texts), total)

    def _embed_readable(
        self, plan: Plan, progress: Progress | None, cache: "StoredCache | None", ahead: Ahead | None
    ) -> Plan:
        """What the index holds and cannot be read becomes a tombstone; what has nothing to embed is noted as such."""
        readable = [entry for entry in plan.to_embed if entry.content]
        broken = [entry for entry in plan.to_embed if not entry.is_readable]
        made = self.embed(replace(plan, to_embed=readable), progress=progress, cache=cache, ahead=ahead)
        none = [Embedding(e.ref, e.content_hash, None) for e in plan.to_embed if not e.has_vector]
        tombstones = [Embedding(e.ref, e.content_hash, None, "read_failed", UNREADABLE) for e in broken]
        failed = IndexReport(
            failed=len(broken), failures=tuple((e.ref, UNREADABLE) for e in broken[:MAX_FAILURES_SHOWN])
        )
        return replace(
            made,
            to_embed=plan.to_embed,
            embeddings=[*made.embeddings, *none, *tombstones],
            report=made.report + failed,
        )

    def is_current(self, connection: Connection, plan: Plan) -> bool:
        """Whether what the plan found unchanged, or keeps embeddings of, is as it was: another writer may have come in
        between."""
        changed = {entry.ref for entry in plan.changed}
        read = {entry.ref: entry.content_hash for entry in plan.wanted if entry.ref not in changed}
        read |= plan.kept
        if not read:
            return True
        states = self._store.contents.states(connection, list(read), None)
        return all(ref in states and states[ref].content_hash == hash_ for ref, hash_ in read.items())

    def apply(self, connection: Connection, plan: Plan) -> IndexReport:
        """Write the plan on this connection, inside its transaction."""
        with writing(connection, len(plan.wanted)) as observed:
            report = self._apply(connection, plan)
            count_records(observed, report)
        return report

    def _apply(self, connection: Connection, plan: Plan) -> IndexReport:
        now = datetime.now(UTC)
        generations = self._catalog.generations(connection) if plan.generations is None else plan.generations
        docs = self._write_contents(connection, plan, generations, now)
        if plan.moved:
            self._keywords.bury(connection, move(connection, self._store, plan.moved, docs, generations))
        report = replace(plan.report, indexed=len(plan.changed), unchanged=len(plan.wanted) - len(plan.changed))
        if plan.service is not None and (left := plan.left):
            if plan.outage is None:
                self._catalog.ensure_generation(connection, generations, plan.service.provider, plan.noise)
            self._store.writes.enqueue(connection, rows_of(left, now))
            report = replace(report, pending=len(left))
        if not plan.embeddings or plan.service is None:
            return report
        provider = plan.service.provider
        if plan.cache and plan.cache.waiting:
            plan.cache.write(connection, provider.fingerprint, plan.cache.waiting)
        if plan.target is None:
            generation = self._catalog.ensure_generation(connection, generations, provider, plan.noise)
        else:
            generation = next((g for g in generations if g.number == plan.target), None)
            if generation is not None and plan.noise is not None:
                self._catalog.set_noise(connection, generation.number, plan.noise)
        if generation is None:
            return replace(report, embedded=0, reused=0, failed=0, failures=(), pending=len(plan.to_embed))
        self._store.embeddings.write(connection, generation, plan.embeddings, now, docs)
        return self._given_up(connection, generation, plan.embeddings, report)

    def _write_contents(
        self, connection: Connection, plan: Plan, generations: Sequence[Generation], now: datetime
    ) -> dict[Ref, int]:
        """The numbers of the contents that are written."""
        if not plan.changed:
            return {}
        if tenanted := {entry.ref.entity for entry in plan.changed if entry.ref.tenant}:
            self._tenanted.add(connection, tenanted)
        written = self._store.writes.upsert(connection, plan.changed, generations, now, plan.kept)
        analysed = self._keywords.analysed(plan.changed) if plan.analysed is None else plan.analysed
        self._keywords.write(connection, plan.changed, written, analysed)
        return {ref: content.doc for ref, content in written.items()}

    def _given_up(
        self, connection: Connection, generation: Generation, embeddings: Sequence[Embedding], report: IndexReport
    ) -> IndexReport:
        """The report with those failed that the server failed on once too often."""
        undecided = {each.ref: each.message or "" for each in embeddings if each.is_undecided}
        refs = self._store.embeddings.give_up(connection, generation, list(undecided)) if undecided else []
        failures = (*report.failures, *((ref, undecided[ref]) for ref in refs))[:MAX_FAILURES_SHOWN]
        failed, pending = report.failed + len(refs), report.pending - len(refs)
        return replace(report, failed=failed, pending=pending, failures=failures)


def with_given(plan: Plan) -> Plan:
    """The plan with the embeddings that the caller gave; of what has none it notes whether it is to have one."""
    given = plan.given or {}
    rows = [row for entry in plan.to_embed for row in given.get(entry.ref, ())]
    rest = [entry for entry in plan.to_embed if entry.ref not in given]
    none = [Embedding(entry.ref, entry.content_hash, None) for entry in rest if not entry.has_vector]
    report = IndexReport(reused=len(plan.to_embed) - len(rest), pending=len(rest) - len(none))
    is_outside = plan.service is not None and plan.service.is_given
    noise = sampled_noise(rows) if is_outside and plan.lacks_noise else None
    is_enqueued = plan.enqueues and not is_outside
    return replace(plan, embeddings=[*rows, *none], report=report, enqueues=is_enqueued, noise=noise)
