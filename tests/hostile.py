"""Nasty strings, values and lines, each with why it is nasty; and every public way in that they are put through.

`python -m stress hostile` takes the whole corpus, `tests/test_hostile.py` the short one.
"""

import random
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.embeddings import CallableProvider, get_provider
from kameleon.errors import MAX_MESSAGE, KameleonError, StorageError, printable
from kameleon.testing import HashProvider

KEY = "sk-live-0123456789abcdefghij"
CANARY = "the canary sings"
SHORT = 20_000

STRINGS: dict[str, tuple[str, str]] = {
    "nul": ("a\0b", "PostgreSQL has no NUL, SQLite's C functions stop at it"),
    "high surrogate": ("a\ud800", "no UTF-8 is made of it"),
    "surrogate pair": ("\ud83d\ude00", "a character in two halves, each no character"),
    "noncharacters": ("\uffff\ufdd0\U0010ffff", "code points that never are characters"),
    "unassigned": ("\u0378\ue000", "no category that a tokenizer knows"),
    "bidi": ("\u202egpj.exe\u2066", "turns the text about in which it is quoted"),
    "combining storm": ("e" + "\u0301" * 500, "one letter of a thousand bytes"),
    "zwj": ("👩\u200d👩\u200d👧\u200d👦" * 20, "one sign of many characters"),
    "dotless": ("İıſẞßﬀ", "changes its length with its case"),
    "white": ("\t\x0b\x0c\x1c\x85\u2028\u3000", "what Python calls white space and others do not"),
    "empty": ("", "says nothing"),
    "blank": (" ", "says nothing and is not empty"),
    "bom": ("\ufefffox", "a mark that editors hide"),
    "lines": ("a\r\nb\rc", "one line in a log is three"),
    "escape": ("\x1b[31mred\x1b[0m\x1b]0;title\x07", "commands a terminal"),
    "c1": ("\x9b2J\x7f", "commands one in a single character"),
    "quotes": ("'\"`''\"\"", "ends a literal or a name"),
    "drop": ("'; DROP TABLE kdb_search; --", "SQL after a literal"),
    "drop name": ('"; DROP TABLE kdb_records; --', "SQL after a name"),
    "dollar": ("$kdb$; CREATE TABLE hacked (x int); --", "SQL after a dollar quote"),
    "comment": ("a /* b */ -- c", "SQL that is left out"),
    "binds": ("%s %(x)s :name ? $1 {0} {x} %", "the places of values in five drivers"),
    "backslash": ("\\' \\x00 \\", "an escape, if strings are read so"),
    "like": ("%_\\%", "matches everything"),
    "glob": ("*?[a-z", "matches everything, and is not whole"),
    "regex": ("(a+)+$|[", "matches for ever, and is not whole"),
    "fts5": ('NEAR(a b, 2) AND "c* NOT {x y}: ^e - f', "FTS5's own operators, not whole"),
    "tsquery": ("a & !b | (c <-> d):*A \\", "PostgreSQL's own operators, not whole"),
    "jsonpath": ('$."a" ? (@ > 1)', "a path in a path"),
    "dots": ("a..b.", "a path without names"),
    "prototype": ("__proto__", "every object has it somewhere"),
    "constructor": ("__class__", "every object has it here"),
    "formula": ("=cmd|' /C calc'!A0", "a spreadsheet runs it"),
    "traversal": ("../../../../etc/passwd", "leaves the folder"),
    "file": ("file:///etc/passwd?mode=rwc", "a URL where a name was meant"),
    "rowid": ("rowid", "a column that no one made"),
    "json": ('{"a": [NaN, 1e400]}', "JSON in JSON"),
    "number": ("1e400", "a number as text"),
    "cjk": ("全文検索の例", "no spaces between words"),
    "arabic": ("شَدَّة ١٢٣", "from right to left, digits of its own"),
    "secret": (f"api_key={KEY}", "nobody wants it in a log"),
    "long word": ("x" * SHORT, "one word over every limit of a word"),
    "long blank": (" " * SHORT, "white space alone"),
    "long name": ("é" * 300, "over 255 bytes and not over 255 characters"),
    "many words": (" ".join(f"w{n}" for n in range(2_000)), "more terms than a query has"),
    "many marks": ("-a" * 2_000, "an operator after another"),
    "many quotes": ('"' * 501, "an odd number of them"),
    "many dots": ("a." * 500, "a deep path"),
}
GIANTS: dict[str, tuple[str, str]] = {
    "10 MB word": ("x" * 10_000_000, "one word of 10 MB"),
    "10 MB blank": (" " * 10_000_000, "white space of 10 MB"),
    "10 MB of lines": ("fox\n" * 2_500_000, "a word 2.5 million times"),
    "a million words": (" ".join(f"w{n}" for n in range(1_000_000)), "as many different ones"),
    "10 MB of marks": ("e" + "\u0301" * 5_000_000, "one letter of 10 MB"),
}


def nested(levels: int) -> Any:
    made: Any = "fox"
    for _ in range(levels):
        made = [made]
    return made


VALUES: dict[str, tuple[Any, str]] = {
    "none": (None, "is nothing"),
    "true": (True, "is 1 in Python"),
    "one": (1, "is not '1'"),
    "one and a bit": (1.5, "is no whole number"),
    "negative zero": (-0.0, "JSONB has none"),
    "nan": (float("nan"), "is not itself, and no JSON"),
    "infinity": (float("inf"), "no JSON"),
    "64 bits": (2**63, "one too many for an integer column"),
    "400 digits": (10**400, "no float"),
    "5,000 digits": (10**5_000, "Python does not show it"),
    "tiny": (5e-324, "the smallest float"),
    "great": (1.7976931348623157e308, "the greatest float"),
    "bytes": (b"\xff", "no text"),
    "list": ([], "has no hash"),
    "list of lists": ([["x"]], "has no hash inside"),
    "object": ({"a": {"b": 1}}, "an object"),
    "operator": ({"$gt": None}, "an operator without a value"),
    "odd key": ({1: 2, None: 3}, "names that are no texts"),
    "set": ({1}, "no JSON"),
    "thing": (object(), "no JSON"),
    "70 deep": (nested(70), "over the depth of a record"),
    "500 deep": (nested(500), "over the depth of a parser"),
    "100,000 deep": (nested(100_000), "over every stack"),
}
LINES: dict[str, tuple[bytes, str]] = {
    "nan": (b'{"id": "1", "a": NaN}', "no JSON"),
    "infinity": (b'{"id": "1", "a": 1e400}', "no float"),
    "digits": (b'{"id": "1", "a": ' + b"9" * 5_000 + b"}", "over Python's limit"),
    "surrogate": (b'{"id": "1", "a": "\\ud800"}', "half a character"),
    "nul": (b'{"id": "1", "a": "x\\u0000y"}', "NUL in disguise"),
    "raw nul": (b'{"id": "1", "a": "\0"}', "NUL"),
    "not utf-8": (b'{"id": "1", "a": "\xff\xfe"}', "no UTF-8"),
    "utf-16": ('{"id": "1"}'.encode("utf-16"), "another encoding"),
    "trailing": (b'{"id": "1", "a": 1} x', "something after the record"),
    "deep": (b'{"id": "1", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "over every stack"),
    "cut": (b'{"id": "1", "a": "b', "ends in the middle"),
    "control": (b'{"id": "1", "\x1b[31m": 1}', "commands a terminal"),
    "control name": (b'{"id": "1", "a": 1, "\\u001b[31m\\u0000": 1}', "commands one from a name"),
    "key in it": (b'{"id": ["' + KEY.encode() + b'"]}', "an id that is none"),
}


@dataclass
class Outcome:
    calls: int = 0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@cache
def categories() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for code in range(0x110000):
        found.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    return found


def random_strings(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Texts of all of Unicode's categories alike."""
    chance = random.Random(seed)
    by_category = categories()
    for number in range(count):
        drawn = (chance.choice(by_category[chance.choice(list(by_category))]) for _ in range(chance.randint(1, 40)))
        yield f"random {number}", "".join(drawn)


class Base(DeclarativeBase):
    pass


@searchable(fields=["say"], name="Hostile $kdb$ %s 'x'")
class Hostile(Base):
    __tablename__ = 'hostile "t" %(x)s $kdb$'

    id: Mapped[str] = mapped_column('k"%', primary_key=True)
    say: Mapped[str] = mapped_column("select a:b")
    n: Mapped[int | None] = mapped_column("n {0} ?")


LONG = "long" * 14


@searchable(fields=["say"])
class Left(Base):
    __tablename__ = f"{LONG} left"

    id: Mapped[int] = mapped_column(primary_key=True)
    say: Mapped[str]


@searchable(fields=["say"])
class Right(Base):
    __tablename__ = f"{LONG} right"

    id: Mapped[int] = mapped_column(primary_key=True)
    say: Mapped[str]


class Ways:
    """Every public way in, on one database. A string or value goes through all of them; what it does is judged."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.search = SearchEngine(engine, HashProvider(8))
        self.store = RecordStore(self.search)
        self.outcome = Outcome()
        Base.metadata.create_all(engine)
        self.sessions = self.search.attach(sessionmaker(engine))
        self.store.insert("Canary", [{"id": "1", "say": CANARY, "n": 3, "tags": ["a"], "of": {"town": "Oslo"}}])
        with self.sessions.begin() as session:
            session.add(Hostile(id="canary", say=CANARY, n=3))
        self.tables = set(inspect(engine).get_table_names())

    def put(self, given: Mapping[str, Any], *, part: int = 1) -> None:
        """Through every way, or each value through one in `part` of them: `part` values in turn through all."""
        for number, (name, value) in enumerate(given.items()):
            for way, call in [*self.asking(value), *self.writing(name, value)][number % part :: part]:
                self.judge(f"{way}: {name}", call)

    def judge(self, what: str, call: Callable[[], object]) -> None:
        """Calls; a fault is whatever is no error of kameleon's own, or one that says too much."""
        self.outcome.calls += 1
        try:
            call()
        except KameleonError as error:
            said, kind = str(error), type(error).__name__
            self.outcome.refused[kind] = self.outcome.refused.get(kind, 0) + 1
            if len(said) > 10 * MAX_MESSAGE or printable(said) != said or type(error) is StorageError:
                self.outcome.faults.append(f"{what}: {kind}: {said[:200]!r}")
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            self.outcome.faults.append(f"{what}: {type(error).__name__}: {str(error)[:200]!r}")
        else:
            self.outcome.accepted += 1

    def asking(self, value: Any) -> Iterator[tuple[str, Callable[[], object]]]:
        search, store = self.search, self.store
        for mode in ("keyword", "vector", "hybrid"):
            yield f"search {mode}", partial(search.search, value, mode=mode, highlight=True, explain=True, count=True)
        asked = partial(search.search, "canary sings")
        yield "entity", partial(asked, entity=value)
        yield "entities", partial(asked, entities=[value])
        for scope in ({}, {"entity": "Canary"}, {"entity": Hostile}):
            column = "say" if scope.get("entity") is Hostile else "of.town"
            yield "where", partial(asked, where=value, **scope)
            yield "where or", partial(asked, where={"$or": [value]}, **scope)
            for operator in ("$eq", "$ne", "$gt", "$lte", "$in", "$nin", "$contains", "$exists", "$not"):
                for name in (column, "n"):
                    yield f"where {operator}", partial(asked, where={name: {operator: value}}, **scope)
                    yield f"where {operator} []", partial(asked, where={name: {operator: [value]}}, **scope)
            yield "facets", partial(asked, facets=[value], **scope)
            yield "sort", partial(asked, sort=value, **scope)
        options = ("limit", "offset", "cursor", "min_score", "mode", "fusion", "weight", "facets", "group_by")
        for option in (*options, "rerank", "rerank_top"):
            yield option, partial(asked, **{option: value})
        yield "suggest", partial(search.suggest, value)
        yield "similar", partial(search.similar, "Canary", value)
        yield "similar to", partial(search.similar, value, "1")
        yield "legs", partial(search.admin.legs, value)
        yield "state", partial(search.admin.state, value, value)
        yield "status", partial(search.get_status, value)
        yield "get", partial(store.get, "Canary", value)
        yield "get of", partial(store.get, value, "1")
        yield "list", partial(store.list, value)
        yield "list where", partial(store.list, "Canary", where={"say": value})
        yield "list limit", partial(store.list, "Canary", limit=value)
        yield "list offset", partial(store.list, "Canary", offset=value)
        yield "provider", partial(get_provider, value) if isinstance(value, str) else partial(int)
        yield "static", partial(get_provider, "static", path=value)
        yield "openai", partial(get_provider, "openai", base_url=value)
        yield "on", partial(search.on, value, print)
        if isinstance(value, str):
            yield "named where", partial(asked, where={value: 1})
            yield "named path", partial(asked, where={f"of.{value}": value})
            yield "named operator", partial(asked, where={"say": {value: 1}})
            yield "field:word", partial(search.search, f'canary say:{value} n:"{value}"', entity=Hostile)
            yield "facet path", partial(asked, facets=[f"of.{value}"])
            yield "sort path", partial(asked, sort=f"-of.{value}")

    def writing(self, name: str, value: Any) -> Iterator[tuple[str, Callable[[], object]]]:
        search, store = self.search, self.store
        yield "index entity", partial(search.index_record, value, "1", CANARY)
        yield "index id", partial(search.index_record, "Plain", value, CANARY)
        yield "index text", partial(search.index_record, "Plain", f"text {name}", value)
        yield "delete", partial(search.delete_record, value, value)
        yield "insert into", partial(store.insert, value, [{"id": "1", "say": CANARY}], on_conflict="upsert")
        yield "insert", partial(store.insert, "Whole", [value], on_conflict="upsert")
        yield "insert how", partial(store.insert, "Whole", [{"id": "1"}], on_conflict=value)
        yield "insert id", partial(self.insert_id, value)
        yield "insert value", partial(self.insert_value, name, value)
        yield "insert inside", partial(self.insert_value, f"inside {name}", {"x": [value]})
        yield "entity of name", partial(store.create_entity, value, search=["say"])
        yield "entity of field", partial(store.create_entity, f"A {name}", search=[value])
        yield "entity of weight", partial(store.create_entity, f"B {name}", search={"say": value})
        yield "entity of type", partial(store.create_entity, f"C {name}", search=["say"], fields={"b": value})
        yield "update", partial(store.update, "Canary", "1", {"other": value})
        yield "update all", partial(store.update, "Canary", "1", value)
        yield "update of", partial(store.update, value, value, {})
        yield "remove", partial(store.delete, "Whole", [value])
        yield "remove of", partial(store.delete, value, ["1"])
        if isinstance(value, str):
            yield "insert field", partial(self.insert_field, name, value)
            yield (
                "entity of typed",
                partial(store.create_entity, f"D {name}", search=["say"], fields={value: "integer"}),
            )
            yield "session", partial(self.commit, name, value)

    def insert_id(self, value: Any) -> None:
        """What was stored under an id is had back by it."""
        self.store.insert("Whole", [{"id": value, "say": CANARY}], on_conflict="upsert")
        if value is not None:
            assert self.store.get("Whole", value).data == {"say": CANARY}

    def insert_value(self, name: str, value: Any) -> None:
        self.store.insert("Valued", [{"id": name, "a": value, "say": CANARY}], on_conflict="upsert")
        assert self.store.get("Valued", name).data == {"a": value, "say": CANARY}

    def insert_field(self, name: str, value: str) -> None:
        self.store.insert("Named", [{"id": f"field {name}", value: CANARY}], on_conflict="upsert")
        found = self.store.get("Named", f"field {name}").data
        assert found == ({value: CANARY} if value != "id" else {})

    def commit(self, name: str, value: str) -> None:
        """Both the row and its entry, or neither; NUL and surrogates in a column are the database's to refuse."""
        try:
            value.replace("\0", "\ud800").encode()
        except UnicodeEncodeError:
            return
        with self.sessions.begin() as session:
            session.merge(Hostile(id=f"{name}", say=value))
        with self.sessions() as session:
            assert session.get_one(Hostile, name).say == value

    def track(self) -> None:
        """Triggers of classes with hostile names mark each its own rows."""
        rows: dict[type, dict[str, Any]] = {Hostile: {"id": "raw", "n": 1}, Left: {"id": 1}, Right: {"id": 1}}
        for cls in rows:
            self.search.track(cls)
        with self.engine.begin() as connection:
            for cls, row in rows.items():
                mapper: Any = inspect(cls)
                columns = {mapper.attrs[name].columns[0]: value for name, value in {**row, "say": "raw words"}.items()}
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
        assert self.store.get("Canary", "1").data["say"] == CANARY
        whole = self.search.search("canary", entity="Canary", mode="keyword")
        assert [hit.id for hit in whole] == ["1"]
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
        "telling": raising(ValueError(f"\x1b[31m\0\ud800 Authorization: Bearer {KEY} " + "z" * SHORT)),
        "silent": raising(Silent()),
        "recursion": raising(RecursionError()),
    }


def check_provider(engine: Engine, name: str, function: Callable[[Sequence[str]], Any]) -> list[str]:
    """What a provider that answers so breaks: its texts are found by keyword, and its reasons tell no key."""
    made = CallableProvider(function, dimensions=4, model_name=f"hostile {name}", attempts=1)
    search = SearchEngine(engine, made)
    report = search.index_records_batch([("Bad", "1", "quiet fox"), ("Bad", "2", "loud bear")])
    told = [str(report.outage or ""), *(failure.message for failure in search.failures())]
    faults = [f"provider {name} tells {said[:100]!r}" for said in told if KEY in said or len(said) > 2 * MAX_MESSAGE]
    if [hit.id for hit in search.search("fox", entity="Bad")] != ["1"]:
        faults.append(f"provider {name}: its texts are not found by keyword")
    search.delete_records([("Bad", "1"), ("Bad", "2")])
    return faults


def diagnosed(search: SearchEngine) -> list[str]:
    return [f"doctor: {finding.check}: {finding.message}" for finding in examine(search) if finding.severity == "error"]
