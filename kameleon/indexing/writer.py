"""The one write path: compare, embed, apply.

`compare` reads what the index holds and leaves only what differs; `embed` asks the provider, holding no lock and no
transaction of ours; `apply` writes contents and embeddings in one transaction. Whatever happened in between is met by
the store: an embedding is kept only where its record still says what it was made from.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, cast

from sqlalchemy import Connection

from ..content import check_entity, check_id, content_hash, normalize
from ..embeddings.passages import Place, Places, passages
from ..errors import InvalidInput, InvalidRecord, ProviderError, TextRefused, seen
from ..forking import lazy
from ..stores.catalog import Catalog, mismatch, written_generation
from ..stores.claims import rows_of
from ..stores.protocols import Store
from ..stores.values import UNDECIDED, Embedding, Entry
from ..values import MAX_FAILURES_SHOWN, Generation, IndexReport, Ref

if TYPE_CHECKING:
    from ..embeddings.provider import Vector
    from ..embeddings.service import EmbeddingReport, EmbeddingService
    from .caching import StoredCache

Progress = Callable[[int, int], None]
Indexing = Literal["sync", "deferred", "auto"]

INDEXING = ("sync", "deferred", "auto")
UNREADABLE = "the index's own copy of this text cannot be read: index the record again"


def check_indexing(indexing: str) -> Indexing:
    if indexing not in INDEXING:
        raise InvalidInput(f"unknown indexing {seen(indexing)}. Known: {', '.join(INDEXING)}")
    return cast(Indexing, indexing)


@dataclass(frozen=True)
class Plan:
    """What a call has to write: `changed` of the `wanted` contents, and `to_embed`, whose embeddings `embeddings` holds
    once `service` made them. `known` are the generations as the transaction that applies it sees them, None before;
    `target` is the number of the one to write to, None for the service's own."""

    wanted: Sequence[Entry]
    changed: Sequence[Entry]
    to_embed: Sequence[Entry]
    service: "EmbeddingService | None" = None
    embeddings: Sequence[Embedding] = ()
    cache: "StoredCache | None" = None
    outage: ProviderError | None = None
    is_deferred: bool = False
    enqueues: bool = True
    target: int | None = None
    known: Sequence[Generation] | None = None
    report: IndexReport = field(default_factory=IndexReport)

    @property
    def left(self) -> list[Ref]:
        """Those without an embedding, which a worker is to make."""
        if not self.enqueues:
            return []
        made = {embedding.ref for embedding in self.embeddings}
        return [entry.ref for entry in self.to_embed if entry.ref not in made]


def entries(records: Iterable[tuple[object, object, object]]) -> list[Entry]:
    """Checked entries, the last of a ref winning. Raises InvalidRecord with the position."""
    folded: dict[Ref, Entry] = {}
    for position, record in enumerate(records):
        try:
            entry = checked_entry(record)
        except InvalidRecord as error:
            raise InvalidRecord(f"record {position}: {error}", position=position) from error
        folded[entry.ref] = entry
    return list(folded.values())


def make_entry(ref: Ref, content: str, emphasis: str = "") -> Entry:
    """White space says nothing, so it is stored as the empty text that it is."""
    hash_ = content_hash(content)
    if hash_ and emphasis:
        hash_ = content_hash(f"{content}\0{emphasis}")
    return Entry(ref, content if hash_ else "", hash_, emphasis if hash_ else "")


def checked_entry(record: tuple[object, object, object]) -> Entry:
    if not isinstance(record, tuple | list) or len(record) != 3:
        raise InvalidRecord(f"a record is (entity, id, text), not {seen(record, 80)}")
    entity, id_, text = record
    if not isinstance(text, str):
        raise InvalidRecord(f"the text of {seen(entity, 40)} {seen(id_, 40)} is {type(text).__name__}, not str")
    return make_entry(Ref(check_entity(entity), check_id(id_)), normalize(text))


@dataclass(frozen=True)
class Ahead:
    """What was embedded before a flush, when the texts were known and the records not yet: `made` by `service`, nothing
    where that is left to a worker; of long texts their passages, as `split` has them. It took `seconds`."""

    service: "EmbeddingService"
    made: "EmbeddingReport | None" = None
    cache: "StoredCache | None" = None
    split: Places = field(default_factory=dict)
    seconds: float = 0.0

    @lazy
    def places(self) -> Mapping[str, int]:
        return {text: place for place, text in enumerate(self.made.texts)} if self.made else {}


class Writer:
    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    def compare(
        self,
        connection: Connection,
        wanted: Sequence[Entry],
        service: "EmbeddingService | None",
        known: Sequence[Generation],
    ) -> Plan:
        """Without a service, or where the index holds another model's embeddings, nothing is to be embedded."""
        generation = written_generation(known, service.provider.fingerprint) if service else None
        states = self._store.contents.states(connection, [entry.ref for entry in wanted], generation)
        changed = [e for e in wanted if e.ref not in states or states[e.ref].content_hash != e.content_hash]
        to_embed: list[Entry] = []
        if service and not mismatch(known, service.provider):
            to_embed = [
                e
                for e in wanted
                if e.content_hash and (e.ref not in states or states[e.ref].embedded_hash != e.content_hash)
            ]
        return Plan(wanted, changed, to_embed, service)

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
        try:
            made = self._embed(plan, progress, cache, ahead)
        except ProviderError as error:
            report = IndexReport(pending=len(plan.to_embed), outage=str(error))
            return replace(plan, outage=error, report=report)
        if not plan.enqueues:
            return made
        return replace(made, embeddings=[each for each in made.embeddings if not each.is_undecided])

    def _embed(self, plan: Plan, progress: Progress | None, cache: "StoredCache | None", ahead: Ahead | None) -> Plan:
        assert plan.service is not None  # noqa: S101 - the caller looked
        if not all(entry.is_readable for entry in plan.to_embed):
            return self._embed_readable(plan, progress, cache)
        before = ahead if ahead is not None and ahead.service is plan.service and ahead.made else None
        contents = [entry.content for entry in plan.to_embed]
        if before:
            new = [content for content in contents if content not in before.split and content not in before.places]
            split: Places = {**before.split, **plan.service.split(new)}
        else:
            split = plan.service.split(contents)
        texts = flattened(contents, split)
        missing = [text for text in texts if text not in before.places] if before else texts
        made = before.made if before else None
        if missing and not (made and made.outage):
            made = plan.service.embed_batch(
                missing,
                on_error="collect",
                progress=progress and self._by_record(progress, plan, split),
                cache=cache,
            )
        assert made is not None  # noqa: S101 - nothing is missing that was not made before
        if before is not None:
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
        """Progress that is told of texts and counts the records whose texts these are."""
        total = len(plan.wanted)
        done = total - len(plan.to_embed)
        ends = [place.stop for _, place in positions(plan.to_embed, split)]
        return lambda texts: progress(done + bisect_right(ends, texts), total)

    def _embed_readable(self, plan: Plan, progress: Progress | None, cache: "StoredCache | None") -> Plan:
        """What the index holds and cannot be read becomes a tombstone."""
        readable = [entry for entry in plan.to_embed if entry.is_readable]
        broken = [entry for entry in plan.to_embed if not entry.is_readable]
        made = self.embed(replace(plan, to_embed=readable), progress=progress, cache=cache)
        tombstones = [Embedding(e.ref, e.content_hash, None, "read_failed", UNREADABLE) for e in broken]
        failed = IndexReport(
            failed=len(broken), failures=tuple((e.ref, UNREADABLE) for e in broken[:MAX_FAILURES_SHOWN])
        )
        return replace(made, embeddings=[*made.embeddings, *tombstones], report=made.report + failed)

    def compare_embeddings(self, connection: Connection, batch: Sequence[Entry], service: "EmbeddingService") -> Plan:
        """What of the index's own contents has no embedding yet. Nothing is written but embeddings."""
        generation = written_generation(self._catalog.generations(connection), service.provider.fingerprint)
        states = self._store.contents.states(connection, [entry.ref for entry in batch], generation)
        to_embed = [e for e in batch if e.content_hash and states[e.ref].embedded_hash != e.content_hash]
        return Plan(batch, (), to_embed, service, enqueues=False)

    def is_current(self, connection: Connection, plan: Plan) -> bool:
        """Whether what the plan found unchanged still is: another writer may have come in between."""
        changed = {entry.ref for entry in plan.changed}
        unchanged = [entry for entry in plan.wanted if entry.ref not in changed]
        if not unchanged:
            return True
        states = self._store.contents.states(connection, [entry.ref for entry in unchanged], None)
        return all(e.ref in states and states[e.ref].content_hash == e.content_hash for e in unchanged)

    def apply(self, connection: Connection, plan: Plan) -> IndexReport:
        """Write the plan on this connection, inside its transaction."""
        now = datetime.now(UTC)
        known = self._catalog.generations(connection) if plan.known is None else plan.known
        keys = self._store.writes.upsert(connection, plan.changed, known, now) if plan.changed else {}
        report = replace(plan.report, indexed=len(plan.changed), unchanged=len(plan.wanted) - len(plan.changed))
        if plan.service is not None and (left := plan.left):
            if plan.outage is None:
                self._catalog.ensure_generation(connection, known, plan.service.provider)
            self._store.writes.enqueue(connection, rows_of(left, now))
            report = replace(report, pending=len(left))
        if not plan.embeddings or plan.service is None:
            return report
        provider = plan.service.provider
        if plan.cache and plan.cache.waiting:
            plan.cache.write(connection, provider.fingerprint, plan.cache.waiting)
        if plan.target is None:
            generation = self._catalog.ensure_generation(connection, known, provider)
        else:
            generation = next((g for g in known if g.number == plan.target), None)
        if generation is None:
            return replace(report, embedded=0, reused=0, failed=0, failures=(), pending=len(plan.to_embed))
        self._store.embeddings.write(connection, generation, plan.embeddings, now, keys)
        return self._given_up(connection, generation, plan.embeddings, report)

    def _given_up(
        self, connection: Connection, generation: Generation, embeddings: Sequence[Embedding], report: IndexReport
    ) -> IndexReport:
        """The report with those failed that the server failed on once too often."""
        undecided = {each.ref: each.message or "" for each in embeddings if each.is_undecided}
        refs = self._store.embeddings.give_up(connection, generation, list(undecided)) if undecided else []
        failures = (*report.failures, *((ref, undecided[ref]) for ref in refs))[:MAX_FAILURES_SHOWN]
        failed, pending = report.failed + len(refs), report.pending - len(refs)
        return replace(report, failed=failed, pending=pending, failures=failures)


def merged(texts: Sequence[str], before: Ahead, rest: "EmbeddingReport") -> "EmbeddingReport":
    """One report for all texts: what `before` knows, then what `rest` does; an outage leaves what neither has."""
    assert before.made is not None  # noqa: S101 - it has places
    later = {text: place for place, text in enumerate(rest.texts)}
    first: dict[str, int] = {}
    embeddings: list[Vector | None] = []
    errors: list[ProviderError | None] = []
    cached: list[bool] = []
    for position, text in enumerate(texts):
        first.setdefault(text, position)
        report, place = (before.made, before.places.get(text)) if text in before.places else (rest, later.get(text))
        embeddings.append(report.embeddings[place] if place is not None else None)
        errors.append(report.errors[place] if place is not None else before.made.outage)
        cached.append(report.cached[place] if place is not None else False)
    reused = frozenset(position for position, text in enumerate(texts) if first[text] != position)
    return replace(rest, texts=texts, embeddings=embeddings, errors=errors, cached=cached, reused=reused)


def flattened(contents: Sequence[str], split: Places) -> Sequence[str]:
    """What is embedded of them: the passages of those that are split, and all others whole."""
    return [passage for content in contents for passage in passages(content, split)] if split else contents


def positions(wanted: Sequence[Entry], split: Places) -> Iterator[tuple[Entry, range]]:
    """Each entry with the positions of its passages among all that were embedded."""
    start = 0
    for entry in wanted:
        end = start + (len(split[entry.content]) if entry.content in split else 1)
        yield entry, range(start, end)
        start = end


def with_pieces(wanted: Sequence[Entry], split: Places, made: "EmbeddingReport") -> "tuple[Places, EmbeddingReport]":
    """The same with more passages, where some were too long and their parts were not."""
    if not any(isinstance(error, TextRefused) and error.pieces for error in made.errors):
        return split, made
    places, vectors, errors = dict(split), list[Any](), list[ProviderError | None]()
    cached, reused = list[bool](), list[int]()
    for entry, of_entry in positions(wanted, split):
        found: list[Place] = []
        whole = split.get(entry.content, (Place(0, len(entry.content)),))
        for position, (start, end) in zip(of_entry, whole, strict=True):
            error = made.errors[position]
            parts = error.pieces if isinstance(error, TextRefused) else ()
            if position in made.reused:
                reused += range(len(vectors), len(vectors) + max(1, len(parts)))
            found += [Place(start + first, start + last) for first, last, _ in parts] or [Place(start, end)]
            vectors += [vector for _, _, vector in parts] or [made.embeddings[position]]
            errors += [None] * len(parts) if parts else [error]
            cached += [made.cached[position]] * max(1, len(parts))
        if len(found) > 1:
            places[entry.content] = found
    return places, replace(made, embeddings=vectors, errors=errors, cached=cached, reused=frozenset(reused))


def embeddings(wanted: Sequence[Entry], split: Places, made: "EmbeddingReport") -> Iterable[Embedding]:
    """What there is to store: vectors, and tombstones for refused texts. An outage leaves nothing of a record."""
    if split:
        for entry, place in positions(wanted, split):
            yield from record_embeddings(entry, split, made.embeddings[slice_of(place)], made.errors[slice_of(place)])
        return
    for entry, vector, error in zip(wanted, made.embeddings, made.errors, strict=True):
        if vector is not None:
            yield Embedding(entry.ref, entry.content_hash, packed(vector))
        elif isinstance(error, TextRefused):
            yield Embedding(entry.ref, entry.content_hash, None, error.reason, storable(str(error)))


def record_embeddings(
    entry: Entry, split: Places, vectors: "Sequence[Vector | None]", errors: Sequence[ProviderError | None]
) -> Iterator[Embedding]:
    if not all(error is None or isinstance(error, TextRefused) for error in errors):
        return
    places = split.get(entry.content, ((None, None),))
    refused = first_refusal(errors)
    if refused is not None and refused.reason in UNDECIDED:
        yield Embedding(entry.ref, entry.content_hash, None, refused.reason, storable(str(refused)))
        return
    for passage, (vector, error, (start, end)) in enumerate(zip(vectors, errors, places, strict=True)):
        said = refused if passage == 0 else error
        reason, message = (said.reason, storable(str(said))) if isinstance(said, TextRefused) else (None, None)
        made = None if vector is None else packed(vector)
        yield Embedding(entry.ref, entry.content_hash, made, reason, message, passage, start, end)


def first_refusal(errors: Sequence[ProviderError | None]) -> TextRefused | None:
    """In the words of the record: which of its passages was refused, if it has several; first one that leaves it
    pending."""
    refused = [(passage, error) for passage, error in enumerate(errors) if isinstance(error, TextRefused)]
    for passage, error in sorted(refused, key=lambda pair: pair[1].reason not in UNDECIDED):
        if len(errors) == 1:
            return error
        return TextRefused(f"passage {passage + 1} of {len(errors)}: {error}", reason=error.reason)
    return None


def is_final(error: ProviderError) -> bool:
    """Whether a text has a tombstone for it."""
    return isinstance(error, TextRefused) and error.reason not in UNDECIDED


def slice_of(place: range) -> slice:
    return slice(place.start, place.stop)


def packed(vector: "Vector") -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def storable(message: str) -> str:
    return message[:500].encode("utf-8", "replace").decode().replace("\0", " ")


def counts(wanted: Sequence[Entry], split: Places, made: "EmbeddingReport") -> IndexReport:
    """Of records: one is failed if any of its passages was refused, and reused if no passage of it was embedded."""
    if not made.reused and not made.cache_hits and not any(made.errors):
        return IndexReport(embedded=len(wanted))
    failures: list[tuple[Ref, str]] = []
    good = reused = 0
    for entry, place in positions(wanted, split):
        errors = made.errors[slice_of(place)]
        if not any(errors):
            good += 1
            reused += all(i in made.reused or made.cached[i] for i in place)
        elif all(error is None or is_final(error) for error in errors):
            failures.append((entry.ref, str(first_refusal(errors))))
    return IndexReport(
        embedded=good - reused,
        reused=reused,
        failed=len(failures),
        pending=len(wanted) - good - len(failures),
        failures=tuple(failures[:MAX_FAILURES_SHOWN]),
        outage=str(made.outage) if made.outage else None,
    )
