"""Every public call, with each hostile value in each of its arguments, and providers that return anything.

`python -m stress hostile` uses all of the values, `tests/test_hostile.py` a part.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.embeddings import CallableProvider, get_provider
from kameleon.errors import MAX_MESSAGE, KameleonError, StorageError, printable
from kameleon.testing import HashProvider

from .hostile_values import CANARY, KEY, SHORT, nested


@dataclass
class Outcome:
    calls: int = 0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Base(DeclarativeBase):
    pass


@searchable(fields=["content"], name="Hostile $kdb$ %s 'x'")
class Hostile(Base):
    __tablename__ = 'hostile "t" %(x)s $kdb$'

    id: Mapped[str] = mapped_column('k"%', primary_key=True)
    content: Mapped[str] = mapped_column("select a:b")
    n: Mapped[int | None] = mapped_column("n {0} ?")


LONG = "long" * 14


@searchable(fields=["content"])
class Left(Base):
    __tablename__ = f"{LONG} left"

    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[str]


@searchable(fields=["content"])
class Right(Base):
    __tablename__ = f"{LONG} right"

    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[str]


class PublicCalls:
    """Every public call, on one database. A string or value goes through all of them, and its effect is judged."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.search = SearchEngine(engine, HashProvider(8))
        self.store = RecordStore(self.search)
        self.outcome = Outcome()
        Base.metadata.create_all(engine)
        self.sessions = self.search.attach(sessionmaker(engine))
        self.store.insert("Canary", [{"id": "1", "content": CANARY, "n": 3, "tags": ["a"], "of": {"town": "Oslo"}}])
        with self.sessions.begin() as session:
            session.add(Hostile(id="canary", content=CANARY, n=3))
        self.tables = set(inspect(engine).get_table_names())

    def put(self, given: Mapping[str, Any], *, part: int = 1) -> None:
        """Each value goes through every call, or through one in `part` of them, so that `part` values cover all."""
        for number, (name, value) in enumerate(given.items()):
            for way, call in [*self.reads(value), *self.writes(name, value)][number % part :: part]:
                self.judge(f"{way}: {name}", call)

    def judge(self, what: str, call: Callable[[], object]) -> None:
        """Calls; a fault is an error that is not kameleon's own, or one with too long a message."""
        self.outcome.calls += 1
        try:
            call()
        except KameleonError as error:
            message, kind = str(error), type(error).__name__
            self.outcome.refused[kind] = self.outcome.refused.get(kind, 0) + 1
            if len(message) > 10 * MAX_MESSAGE or printable(message) != message or type(error) is StorageError:
                self.outcome.faults.append(f"{what}: {kind}: {message[:200]!r}")
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            self.outcome.faults.append(f"{what}: {type(error).__name__}: {str(error)[:200]!r}")
        else:
            self.outcome.accepted += 1

    def reads(self, value: Any) -> Iterator[tuple[str, Callable[[], object]]]:
        search, store = self.search, self.store
        for mode in ("keyword", "vector", "hybrid"):
            yield f"search {mode}", partial(search.search, value, mode=mode, highlight=True, explain=True, count=True)
        query = partial(search.search, "canary sings")
        yield "entity", partial(query, entity=value)
        yield "entities", partial(query, entities=[value])
        for scope in ({}, {"entity": "Canary"}, {"entity": Hostile}):
            column = "content" if scope.get("entity") is Hostile else "of.town"
            yield "where", partial(query, where=value, **scope)
            yield "where or", partial(query, where={"$or": [value]}, **scope)
            for operator in ("$eq", "$ne", "$gt", "$lte", "$in", "$nin", "$contains", "$exists", "$not"):
                for name in (column, "n"):
                    yield f"where {operator}", partial(query, where={name: {operator: value}}, **scope)
                    yield f"where {operator} []", partial(query, where={name: {operator: [value]}}, **scope)
            yield "facets", partial(query, facets=[value], **scope)
            yield "sort", partial(query, sort=value, **scope)
        options = ("limit", "offset", "cursor", "min_score", "mode", "fusion", "weight", "facets", "group_by")
        for option in (*options, "rerank", "rerank_top"):
            yield option, partial(query, **{option: value})
        yield "suggest", partial(search.suggest, value)
        yield "similar", partial(search.similar, "Canary", value)
        yield "similar to", partial(search.similar, value, "1")
        yield "legs", partial(search.admin.legs, value)
        yield "state", partial(search.admin.state, value, value)
        yield "status", partial(search.get_status, value)
        yield "get", partial(store.get, "Canary", value)
        yield "get of", partial(store.get, value, "1")
        yield "list", partial(store.list, value)
        yield "list where", partial(store.list, "Canary", where={"content": value})
        yield "list limit", partial(store.list, "Canary", limit=value)
        yield "list offset", partial(store.list, "Canary", offset=value)
        yield "provider", partial(get_provider, value) if isinstance(value, str) else partial(int)
        yield "static", partial(get_provider, "static", path=value)
        yield "openai", partial(get_provider, "openai", base_url=value)
        yield "on", partial(search.on, value, print)
        if isinstance(value, str):
            yield from self.reads_by_name(value)

    def reads_by_name(self, value: str) -> Iterator[tuple[str, Callable[[], object]]]:
        query = partial(self.search.search, "canary sings")
        yield "named where", partial(query, where={value: 1})
        yield "named path", partial(query, where={f"of.{value}": value})
        yield "named operator", partial(query, where={"content": {value: 1}})
        yield "field:word", partial(self.search.search, f'canary content:{value} n:"{value}"', entity=Hostile)
        yield "facet path", partial(query, facets=[f"of.{value}"])
        yield "sort path", partial(query, sort=f"-of.{value}")

    def writes(self, name: str, value: Any) -> Iterator[tuple[str, Callable[[], object]]]:
        search, store = self.search, self.store
        yield "index entity", partial(search.index_record, value, "1", CANARY)
        yield "index id", partial(search.index_record, "Plain", value, CANARY)
        yield "index text", partial(search.index_record, "Plain", f"text {name}", value)
        yield "delete", partial(search.delete_record, value, value)
        yield "insert into", partial(store.insert, value, [{"id": "1", "content": CANARY}], on_conflict="replace")
        yield "insert", partial(store.insert, "Stored", [value], on_conflict="replace")
        yield "insert how", partial(store.insert, "Stored", [{"id": "1"}], on_conflict=value)
        yield "insert id", partial(self.insert_id, value)
        yield "insert value", partial(self.insert_value, name, value)
        yield "insert inside", partial(self.insert_value, f"inside {name}", {"x": [value]})
        yield "entity of name", partial(store.create_entity, value, search=["content"])
        yield "entity of field", partial(store.create_entity, f"A {name}", search=[value])
        yield "entity of weight", partial(store.create_entity, f"B {name}", search={"content": value})
        yield "entity of type", partial(store.create_entity, f"C {name}", search=["content"], fields={"b": value})
        yield "update", partial(store.update, "Canary", "1", {"other": value})
        yield "update all", partial(store.update, "Canary", "1", value)
        yield "update of", partial(store.update, value, value, {})
        yield "remove", partial(store.delete, "Stored", [value])
        yield "remove of", partial(store.delete, value, ["1"])
        if isinstance(value, str):
            yield "insert field", partial(self.insert_field, name, value)
            yield (
                "entity of typed",
                partial(store.create_entity, f"D {name}", search=["content"], fields={value: "integer"}),
            )
            yield "session", partial(self.commit, name, value)

    def insert_id(self, value: Any) -> None:
        """What was stored under an id is read back by it."""
        self.store.insert("Stored", [{"id": value, "content": CANARY}], on_conflict="replace")
        if value is not None:
            assert self.store.get("Stored", value).data == {"content": CANARY}

    def insert_value(self, name: str, value: Any) -> None:
        self.store.insert("Valued", [{"id": name, "a": value, "content": CANARY}], on_conflict="replace")
        assert self.store.get("Valued", name).data == {"a": value, "content": CANARY}

    def insert_field(self, name: str, value: str) -> None:
        self.store.insert("Named", [{"id": f"field {name}", value: CANARY}], on_conflict="replace")
        found = self.store.get("Named", f"field {name}").data
        assert found == ({value: CANARY} if value != "id" else {})

    def commit(self, name: str, value: str) -> None:
        """Both the row and its entry are stored, or neither; the database refuses NUL and surrogates in a column."""
        try:
            value.replace("\0", "\ud800").encode()
        except UnicodeEncodeError:
            return
        with self.sessions.begin() as session:
            session.merge(Hostile(id=f"{name}", content=value))
        with self.sessions() as session:
            assert session.get_one(Hostile, name).content == value

    def track(self) -> None:
        """Triggers of classes with hostile names mark each its own rows."""
        rows: dict[type, dict[str, Any]] = {Hostile: {"id": "raw", "n": 1}, Left: {"id": 1}, Right: {"id": 1}}
        for cls in rows:
            self.search.track(cls)
        with self.engine.begin() as connection:
            for cls, row in rows.items():
                mapper: Any = inspect(cls)
                columns = {
                    mapper.attrs[name].columns[0]: value for name, value in {**row, "content": "raw words"}.items()
                }
                connection.execute(mapper.local_table.insert().values(columns))
        self.search.sync()
        found = self.search.search('"raw words"', entities=list(rows), mode="keyword")
        assert sorted(hit.id for hit in found) == ["1", "1", "raw"]
        for cls in rows:
            self.search.untrack(cls)

    def check(self) -> None:
        """Nothing was executed and nothing was lost."""
        with self.engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM kdb_search")) > 0
        assert set(inspect(self.engine).get_table_names()) == self.tables
        assert self.store.get("Canary", "1").data["content"] == CANARY
        found = self.search.search("canary", entity="Canary", mode="keyword")
        assert [hit.id for hit in found] == ["1"]
        assert "canary" in [hit.id for hit in self.search.search("canary", entity=Hostile, where={"n": 3})]
        assert not self.search.failures()


def bad_providers() -> dict[str, Callable[[Sequence[str]], Any]]:
    def raising(error: BaseException) -> Callable[[Sequence[str]], Any]:
        def fail(_texts: Sequence[str]) -> Any:
            raise error

        return fail

    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    return {
        "nan": lambda texts: [[float("nan")] * 4] * len(texts),
        "infinity": lambda texts: [[float("inf")] * 4] * len(texts),
        "shape": lambda texts: [[1.0] * 3] * len(texts),
        "count": lambda texts: [[1.0] * 4] * (len(texts) + 1),
        "none": lambda _texts: None,
        "nones": lambda texts: [None] * len(texts),
        "text": lambda _texts: "abcd",
        "texts": lambda texts: ["abcd"] * len(texts),
        "object": lambda _texts: {},
        "number": lambda _texts: 5,
        "ragged": lambda texts: [[1.0], [1.0, 2.0]] * len(texts),
        "complex": lambda texts: [[1j] * 4] * len(texts),
        "deep": lambda texts: [nested(50)] * len(texts),
        "broken generator": lambda texts: (1 / 0 for _ in texts),
        "errors": lambda texts: [ValueError(f"\0\ud800 {KEY}")] * len(texts),
        "secret in error": raising(ValueError(f"\x1b[31m\0\ud800 Authorization: Bearer {KEY} " + "z" * SHORT)),
        "silent": raising(Silent()),
        "recursion": raising(RecursionError()),
    }


def check_provider(engine: Engine, name: str, function: Callable[[Sequence[str]], Any]) -> list[str]:
    """The faults of an index with such a provider: its texts are found by keyword, its errors show no key."""
    made = CallableProvider(function, dimensions=4, model_name=f"hostile {name}", attempts=1)
    search = SearchEngine(engine, made)
    report = search.index_records_batch([("Bad", "1", "quiet fox"), ("Bad", "2", "loud bear")])
    messages = [str(report.outage or ""), *(failure.message for failure in search.failures())]
    faults = [f"provider {name} shows {m[:100]!r}" for m in messages if KEY in m or len(m) > 2 * MAX_MESSAGE]
    if [hit.id for hit in search.search("fox", entity="Bad")] != ["1"]:
        faults.append(f"provider {name}: its texts are not found by keyword")
    search.delete_records([("Bad", "1"), ("Bad", "2")])
    return faults


def diagnosed(search: SearchEngine) -> list[str]:
    return [f"doctor: {finding.check}: {finding.message}" for finding in examine(search) if finding.severity == "error"]
