"""One tenant's writes and all that it can observe, and what another does in between: for the comparison of an index
of a tenant alone with one beside another tenant."""

import asyncio
import gzip
import inspect
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import URL, Engine, Select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.errors import KameleonError, TextRefused
from kameleon.evaluation import compare, evaluate, judgements_of
from kameleon.testing import HashProvider

WORDS = (
    *("red", "fox", "whale", "lantern", "harbour", "copper", "meadow", "glacier"),
    *("violin", "orchard", "pepper", "walnut", "tunnel", "ribbon", "saddle"),
)
OTHERS = ("zorblatt", "merger", "layoffs", "zebulon", "metformin", "secret")
QUERIES = ("red fox", "whalle", "lanter*", '"copper meadow"', "harbour -fox", "zorblatt", "zeb*", "violn merger", "fo")
OWN_RULES = "lantern, beacon, red fox", "red fox", 3, 4
QUICK = 2
"""Steps of a quick test."""
MODES = ("hybrid", "keyword", "vector")
TOO_LONG = "unspeakable"
QRELS = {str(n): {str(id_): 1.0 for id_ in range(n, 60, 5)} for n in range(4)}
TIMES = ("created_at", "updated_at", "last_updated")

BY_OTHERS = {
    "the writes of each way": "SearchEngine.index_records_batch SearchEngine.delete_records RecordStore.insert "
    "RecordStore.delete",
    "what each tenant keeps for its searches": "Synonyms.add QueryRules.set Judgements.set",
    "calls a verb that is observed": "Synonyms.aadd Synonyms.load Synonyms.aload Synonyms.aremove QueryRules.aset "
    "QueryRules.aremove Judgements.aset Judgements.load Judgements.aload Judgements.aremove "
    "SearchEngine.index_record SearchEngine.delete_record Coroutines.aindex_record "
    "Coroutines.aindex_records_batch Coroutines.adelete_record Coroutines.adelete_records Coroutines.ainsert "
    "Coroutines.aupdate Coroutines.adelete Coroutines.alist RecordStore.update",
    "takes no tenant: an operator's, of the whole index": "SearchEngine.reindex Administration.index_vectors "
    "Administration.vector_index Administration.purge Administration.set_weight Administration.distribute "
    "Administration.protect Administration.unprotect CacheAdministration.status CacheAdministration.clear "
    "Reindexing.plan Reindexing.run Reindexing.rollback Reindexing.target Registry.status Registry.pending "
    "Registry.prune Registry.cancel Registry.forget Registry.drop_tables Worker.run Worker.work rebuild "
    "RecordStore.alter_entity RecordStore.rename_entity RecordStore.drop_entity "
    "Coroutines.aalter_entity Coroutines.arename_entity Coroutines.adrop_entity Administration.index_class keep "
    "Administration.sizes Administration.tenants VerbGroups.table ExistingTables.define ExistingTables.plan "
    "ExistingTables.add ExistingTables.status ExistingTables.get ExistingTables.list ExistingTables.refresh "
    "ExistingTables.remove",
    "writes or deletes, and returns nothing of the index": "Administration.drop_tenant Administration.import_tenant "
    "RecordStore.create_entity Coroutines.acreate_entity RecordStore.embed_ahead RecordStore.batches_ahead",
    "reads nothing": "SearchEngine.attach SearchEngine.flush Coroutines.aflush SearchEngine.track SearchEngine.untrack "
    "SearchEngine.for_tenant SearchEngine.on SearchEngine.close Coroutines.aclose set_up_engine create_engine "
    "create_async_engine searchable",
    "reads one record by its key, for tests": "assert_indexed assert_not_indexed",
}
"""The public verbs that are not observed, by the reason; tests/test_isolation.py has any other verb observed."""


class Base(DeclarativeBase):
    pass


@searchable(fields=["title", "text"], tenant="tenant")
class Parcel(Base):
    __tablename__ = "isolated_parcel"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    title: Mapped[str]
    text: Mapped[str]
    size: Mapped[int]


def refused(text: str) -> Exception | None:
    return TextRefused("no", reason="embed_failed") if TOO_LONG in text else None


def record(random: random.Random, words: Sequence[str]) -> tuple[str, str, int]:
    title = " ".join(random.choices(words, k=3))
    return title, " ".join(random.choices(words, k=random.randint(3, 9))), random.randint(1, 5)


class ByHand:
    """Writes of one tenant. `ids` are the ids that it uses: the same as the other tenant's, where that is possible."""

    def __init__(self, search: SearchEngine, tenant: str) -> None:
        self.engine, self.tenant = search, tenant
        self.answered: Counter[str] = Counter()
        self.written_until = datetime.now(UTC)
        self.written: list[int] = []
        self.search = search.for_tenant(tenant)

    def write(self, rows: dict[int, tuple[str, str, int]]) -> Any:
        return self.search.index_records_batch(
            [("Parcel", id_, f"{title}\n{text}") for id_, (title, text, _) in rows.items()]
        )

    def delete(self, ids: Sequence[int]) -> Any:
        return self.search.delete_records([("Parcel", id_) for id_ in ids])

    def options(self) -> list[dict[str, Any]]:
        return [{}]

    def keep_rules(self, synonyms: str, query: str, pinned: int, hidden: int) -> None:
        self.search.synonyms.add(synonyms)
        self.search.rules.set(query, pin=[("Parcel", pinned)], hide=[("Parcel", hidden)])
        self.search.judgements.set(query, [("Parcel", pinned)])

    def observed(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Returns the value of a call in plain objects, or its error, and counts those that have a value."""
        try:
            value = call(*arguments, **options)
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
        except KameleonError as error:
            return type(error).__name__, str(error)
        self.answered[call.__qualname__] += isinstance(value, Select) or bool(value)
        return plain(value, self.written_until)

    def reads(self) -> Iterator[tuple[Any, Any]]:
        """Further observations, of this way alone."""
        for id_ in (*self.written, 500):
            yield ("state", id_), self.observed(self.engine.admin.state, "Parcel", id_, tenant=self.tenant)
            yield ("astate", id_), self.observed(self.engine.admin.astate, "Parcel", id_, tenant=self.tenant)


class ByRecordStore(ByHand):
    def __init__(self, search: SearchEngine, tenant: str) -> None:
        super().__init__(search, tenant)
        self.store = RecordStore(self.search)
        if "Parcel" not in {entity.name for entity in RecordStore(search).entities()}:
            RecordStore(search).create_entity(
                "Parcel", search=["title", "text"], fields={"size": "integer"}, tenant_field="org"
            )

    def write(self, rows: dict[int, tuple[str, str, int]]) -> Any:
        records = [{"id": str(i), "title": title, "text": text, "size": n} for i, (title, text, n) in rows.items()]
        self.load(self.store.load_files, "fox.md")
        return self.store.insert("Parcel", records, on_conflict="replace")

    def load(self, call: Callable[..., Any], *names: str) -> Any:
        """Observe the loading of a folder whose name, and those of its files, the other tenant has, too."""
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent, "notes")
            folder.mkdir()
            for name in names:
                (folder / name).write_text(f"red fox of {self.tenant} in {name}\n", "utf-8")
            return self.observed(call, "Parcel", folder, sync=True)

    def delete(self, ids: Sequence[int]) -> Any:
        return self.store.delete("Parcel", ids)

    def options(self) -> list[dict[str, Any]]:
        return [{}, {"where": {"size": {"$gt": 2}}}, {"facets": ["size"], "count": True}, {"sort": "-size"}]

    def reads(self) -> Iterator[tuple[Any, Any]]:
        store = self.store
        for id_ in (*self.written, 500):
            yield ("get", id_), self.observed(store.get, "Parcel", id_)
            yield ("aget", id_), self.observed(store.aget, "Parcel", id_)
        yield "load_files", self.load(store.load_files, "fox.md", "whale.md")
        yield "aload_files", self.load(store.aload_files, "fox.md")
        for name, read in (("get_many", store.get_many), ("aget_many", store.aget_many)):
            yield name, self.observed(read, "Parcel", [500, *self.written], vectors=True)
        for name, counted in (("count", store.count), ("acount", store.acount)):
            yield name, self.observed(counted, "Parcel", where={"size": {"$gt": 1}})
        yield "list", self.observed(store.list, "Parcel", where={"size": {"$gt": 1}})
        yield "entities", self.observed(store.entities)
        yield "aentities", self.observed(store.aentities)
        yield "entity", self.observed(store.entity, "Parcel")
        yield "aentity", self.observed(store.aentity, "Parcel")
        yield "definition", self.observed(store.definition, "Parcel", [{"id": "1", "weight": 3}])


class ByClass(ByHand):
    def __init__(self, search: SearchEngine, tenant: str) -> None:
        super().__init__(search, tenant)
        Base.metadata.create_all(search.engine)
        self.sessions: sessionmaker[Session] = search.attach(sessionmaker(search.engine))
        self.first = 0 if tenant == "a" else 10_000

    def write(self, rows: dict[int, tuple[str, str, int]]) -> Any:
        with self.sessions.begin() as session:
            for id_, (title, text, size) in rows.items():
                session.merge(Parcel(id=self.first + id_, tenant=self.tenant, title=title, text=text, size=size))

    def delete(self, ids: Sequence[int]) -> Any:
        with self.sessions.begin() as session:
            for id_ in ids:
                if (found := session.get(Parcel, self.first + id_)) is not None:
                    session.delete(found)

    def options(self) -> list[dict[str, Any]]:
        return [
            {},
            {"entity": Parcel, "where": Parcel.size > 2},
            {"entity": Parcel, "facets": ["size"], "count": True},
            {"entity": Parcel, "sort": "-size"},
        ]

    def reads(self) -> Iterator[tuple[Any, Any]]:
        yield "select", self.observed(self.search.select, Parcel, "red fox whale")
        yield "aselect", self.observed(self.search.aselect, Parcel, "red fox whale")
        with Session(self.engine.engine) as session:
            yield "selected", [row.id for row in session.scalars(self.search.select(Parcel, "red fox whale"))]


WAYS: dict[str, type[ByHand]] = {"by hand": ByHand, "record store": ByRecordStore, "mapped class": ByClass}


def plain(value: Any, until: datetime) -> Any:
    """A verb's value as objects that compare; of a time, whether it is before the tenant's last writes ended."""
    if isinstance(value, kameleon.SearchResults):
        plan = {**asdict(value.plan), "legs": sorted(value.plan.legs)}
        counts = (value.total, value.exact, value.is_total_exact, value.cursor)
        groups = {name: [hit.id for hit in hits] for name, hits in value.groups.items()}
        return [asdict(hit) for hit in value], plan, counts, {k: dict(v) for k, v in value.facets.items()}, groups
    if isinstance(value, list):
        return [plain(item, until) for item in value]
    if isinstance(value, Select):
        return str(value), dict(value.compile().params)
    if is_dataclass(value) and not isinstance(value, type):
        return {k: v <= until if k in TIMES and v else v for k, v in asdict(value).items()}
    return value


def observations(way: ByHand, queries: Sequence[str], is_thorough: bool) -> Iterator[tuple[Any, Any]]:
    """Each query in every mode with every option; of a quick test in one of each, in turn."""
    search, observed = way.search, way.observed
    for place, query in enumerate(queries):
        chosen = [(mode, options) for mode in MODES for options in way.options()]
        for mode, options in chosen if is_thorough else chosen[place % len(chosen) :: 5]:
            given = {"mode": mode, "explain": True, "highlight": True, **options}
            yield (query, mode, str(options)), observed(search.search, query, limit=5, **given)
        yield ("groups", query), observed(search.search, query, group_by="entity", count=True)
        yield ("suggest", query), observed(search.suggest, query)
        page = search.search(query, limit=2)
        yield ("second page", query), observed(search.search, query, limit=2, cursor=page.cursor)
        found = way.engine.admin.legs(query, tenant=way.tenant)
        way.answered["Administration.legs"] += any(leg.chosen for leg in found.legs)
        yield ("legs", query), [asdict(leg) for leg in found.legs]
    for id_ in (*way.written, 1, 10_002, "absent"):
        yield ("similar", id_), observed(search.similar, "Parcel", id_, limit=4, explain=True)
    for each in (search.synonyms, search.rules, search.judgements):
        for call in (each.list, each.alist):
            yield call.__qualname__, observed(call)
    removed = ((search.synonyms.remove, OWN_RULES[0]), (search.rules.remove, OWN_RULES[1]))
    for remove, kept in (*removed, (search.judgements.remove, OWN_RULES[1])):
        yield remove.__qualname__, observed(remove, kept)
    way.keep_rules(*OWN_RULES)
    yield "status", observed(search.get_status)
    yield "failures", observed(search.failures)
    yield "error", observed(search.search, "fox", entity="Parcel", where={"zorblatt": 1})
    yield from awaited(way)
    yield from of_operators(way)
    yield from way.reads()


def awaited(way: ByHand) -> Iterator[tuple[Any, Any]]:
    search, observed = way.search, way.observed
    yield "asearch", observed(search.asearch, "red fox", limit=5, explain=True, count=True)
    for word in WORDS:
        yield ("asuggest", word), observed(search.asuggest, word[:2])
    for id_ in way.written:
        yield ("asimilar", id_), observed(search.asimilar, "Parcel", id_, limit=4)
    yield "afailures", observed(search.afailures)


def of_operators(way: ByHand) -> Iterator[tuple[Any, Any]]:
    """What an operator's verbs return of the one tenant that they are given."""
    engine, tenant = way.engine, way.tenant
    queries = dict(zip(QRELS, ("red fox", "whale zorblatt", "lantern", "copper meadow"), strict=True))
    yield "evaluate", way.observed(evaluate, engine, queries, QRELS, tenant=tenant)
    yield "judgements_of", way.observed(judgements_of, engine, queries, QRELS, tenant=tenant)
    yield "evaluate kept", way.observed(evaluate, engine, tenant=tenant)
    yield "compare", way.observed(compare, engine, queries, QRELS, {}, {"mode": "keyword"}, tenant=tenant)
    yield "examine", way.observed(examine, engine, tenant=tenant)
    yield "generations", way.observed(engine.generations)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tenant.jsonl.gz"
        yield "export", way.observed(engine.admin.export_tenant, tenant, file)
        yield "exported", gzip.decompress(file.read_bytes()).decode().splitlines()
    yield "sync", way.observed(way.search.sync)


def of_others(way: ByHand, random: random.Random) -> None:
    """What the other tenant does between two calls: writes of the same ids, of the other's words with typos, of enough
    records for a fold; deletions; searches of its own and of all tenants."""
    size = random.choice([3, 40, 300])
    typos = [word[:-2] + word[-1] + word[-2] for word in WORDS]
    words = [*WORDS, *OTHERS, *typos, TOO_LONG]
    way.write({id_: record(random, words) for id_ in random.sample(range(1, 600), size)})
    way.delete(random.sample(range(1, 600), 30))
    way.keep_rules(f"fox, {random.choice(OTHERS)}", "red fox", *random.sample(range(1, 600), 2))
    for query in random.sample(QUERIES, 3):
        way.search.search(query)
        way.search.suggest(query)
        way.engine.search(query, tenant=kameleon.ALL_TENANTS)


def run(way: ByHand, other: ByHand | None, seed: int, steps: int) -> Iterator[tuple[Any, Any]]:
    """Each observation of a tenant's calls, with its name."""
    own, others = random.Random(seed), random.Random(seed + 1)
    way.keep_rules(*OWN_RULES)
    for step in range(steps):
        if other is not None:
            of_others(other, others)
        rows = {own.randint(1, 60): record(own, [*WORDS, TOO_LONG]) for _ in range(own.choice([1, 5, 20]))}
        yield (step, "written"), way.observed(way.write, rows)
        yield (step, "deleted"), way.observed(way.delete, [own.randint(1, 60)])
        way.written_until, way.written = datetime.now(UTC), sorted(rows)[:3]
        if other is not None:
            of_others(other, others)
        if other is not None and others.random() < 0.5:
            way.engine.index.keywords.maintain_all(purges=others.random() < 0.5)
        queries = QUERIES if step == steps - 1 else own.sample(QUERIES, 2)
        for name, found in observations(way, queries, steps > QUICK):
            yield (step, name), found


@contextmanager
def opened(url: str | URL) -> Iterator[SearchEngine]:
    """With a cache of embeddings and a limit on queries, as a provider over the network has: these tell most."""
    engine: Engine = kameleon.create_engine(url) if str(url).startswith("sqlite") else sqlalchemy.create_engine(url)
    try:
        yield SearchEngine(engine, HashProvider(refuse=refused), cache=True)
    finally:
        engine.dispose()
