"""Searches of a tenant, and through tables with row-level security: the cases of applications that were reported, and
what `tenant=` and `for_tenant` take and refuse."""

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import URL, Connection, Engine, ForeignKey, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from kameleon import ALL_TENANTS, RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.errors import InvalidInput, RecordMissing, TenantRequired
from kameleon.evaluation import evaluate
from kameleon.orm.callers import sessions_of
from kameleon.orm.secured import Secured as SecuredClasses
from kameleon.stores.values import Scope
from kameleon.testing import HashProvider
from kameleon.values import Ref

from .conftest import Make, ids, schema_on, url_in


class Base(DeclarativeBase):
    pass


@searchable(fields={"title": 2, "body": 1}, tenant="tenant")
class Memo(Base):
    __tablename__ = "tenants_memo"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    title: Mapped[str]
    body: Mapped[str]
    status: Mapped[str] = mapped_column(default="open")


@searchable(fields=["title", "body"])
class Letter(Base):
    """Its table has row-level security; it has no tenants in the index."""

    __tablename__ = "tenants_letter"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    title: Mapped[str]
    body: Mapped[str]
    status: Mapped[str] = mapped_column(default="open")


@searchable(fields=["name"])
class Pet(Base):
    """The tables of its subclasses have row-level security."""

    __tablename__ = "tenants_pet"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]


class Dog(Pet):
    __tablename__ = "tenants_dog"
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("tenants_pet.id"), primary_key=True)
    is_secret: Mapped[bool]


class Puppy(Dog):
    __tablename__ = "tenants_puppy"
    __mapper_args__ = {"polymorphic_identity": "puppy"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("tenants_dog.id"), primary_key=True)
    weeks: Mapped[int]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def memos(search: SearchEngine) -> sessionmaker[Session]:
    """Tenant 1 sells bicycles, tenant 2 has secrets."""
    Base.metadata.create_all(search.engine, tables=[Memo.__table__])  # type: ignore[list-item]
    sessions: sessionmaker[Session] = search.attach(sessionmaker(search.engine))
    with sessions.begin() as session:
        for n in range(20):
            session.add(Memo(id=n, tenant=1, title=f"Quarterly report {n}", body="sales of bicycles in the region"))
            other = Memo(id=100 + n, tenant=2, title=f"Merger with Zorblatt {n}", body="secret layoffs at zorblatt")
            other.status = "hidden"
            session.add(other)
    return sessions


def test_no_word_of_another_tenant_is_shown(search: SearchEngine, memos: sessionmaker[Session]) -> None:
    own = search.for_tenant(1)
    assert own.suggest("zor") == own.suggest("zor", entity=Memo) == []
    assert search.for_tenant(2).suggest("zor") == ["zorblatt"]
    existing, none = (own.search(word, entity=Memo, explain=True) for word in ("zorblatt", "qwertyui"))
    for found in (existing, none, own.search("zorblat", entity=Memo, explain=True)):
        assert {hit.tenant for hit in found} <= {"1"}
        assert (found.plan.terms, found.plan.corrections) == ((), {})
        assert found.plan.rows_scanned.get("keyword", 0) == 0
    assert own.search("zor*", entity=Memo, mode="keyword") == []


def test_counts_and_facets_are_of_the_tenant(search: SearchEngine, memos: sessionmaker[Session]) -> None:
    options: dict[str, Any] = {"entity": Memo, "facets": ["status", "tenant"], "count": True, "limit": 2}
    found = search.search("zorblatt report", tenant=1, **options)
    assert (found.total, found.facets) == (20, {"status": {"open": 20}, "tenant": {1: 20}})
    both = search.search("zorblatt report", tenant=[1, "2"], mode="keyword", **options)
    assert (both.total, both.facets["status"]) == (40, {"hidden": 20, "open": 20})
    every = search.search("zorblatt report", tenant=ALL_TENANTS, mode="keyword", **options)
    assert (every.total, every.facets) == (both.total, both.facets)
    assert search.search("report", tenant=[], entity=Memo) == []
    assert search.search("report", tenant="", entity=Memo) == []


def test_scores_and_corrections_are_of_the_tenant(search: SearchEngine, memos: sessionmaker[Session]) -> None:
    own = search.for_tenant(1)
    before = own.search("region bicycles", entity=Memo, explain=True)
    typo = own.search("regoin", entity=Memo).plan.corrections
    assert typo == {"regoin": "region"}
    with memos.begin() as session:
        for n in range(50):
            session.add(Memo(id=1000 + n, tenant=2, title="regoin", body="region bicycles"))
    after = own.search("region bicycles", entity=Memo, explain=True)
    assert list(after) == list(before)
    assert own.search("regoin", entity=Memo).plan.corrections == typo


def test_a_record_of_another_tenant_is_similar_to_none(search: SearchEngine, memos: sessionmaker[Session]) -> None:
    own = search.for_tenant(1)
    assert {hit.tenant for hit in own.similar(Memo, 1, limit=30)} == {"1"}
    messages = []
    for absent in (101, 999):
        with pytest.raises(RecordMissing) as raised:
            own.similar(Memo, absent)
        messages.append(str(raised.value).replace(str(absent), "…"))
    assert messages[0] == messages[1]
    for several in ([1, 2], ALL_TENANTS):
        with pytest.raises(InvalidInput, match="own tenant alone"):
            search.similar(Memo, 1, tenant=several)


def test_what_has_tenants_is_not_searched_without_one(search: SearchEngine, memos: sessionmaker[Session]) -> None:
    refused: list[Callable[[], object]] = [
        lambda: search.search("report", entity=Memo),
        lambda: search.search("report", entity="Memo"),
        lambda: search.search("report"),
        lambda: search.search("report", entities=["Other", "Memo"]),
        lambda: search.suggest("rep"),
        lambda: search.suggest("rep", entities=[Memo]),
        lambda: search.similar(Memo, 1),
        lambda: search.select(Memo, "report"),
        lambda: search.admin.legs("report", entities=["Memo"]),
        lambda: evaluate(search, {"q": "report"}, {"q": {"1": 1.0}}),
        lambda: asyncio.run(search.asearch("report", entity=Memo)),
        lambda: asyncio.run(search.asuggest("rep")),
    ]
    for call in refused:
        with pytest.raises(TenantRequired, match=r"Memo has tenants.*for_tenant.*ALL_TENANTS.*Commands have --tenant"):
            call()
    assert search.search("report", entity="Other") == []


def test_a_class_with_tenants_is_refused_before_it_has_records(search: SearchEngine) -> None:
    with pytest.raises(TenantRequired):
        search.search("report", entity=Memo)


def test_each_verb_reads_the_tenant(search: SearchEngine, memos: sessionmaker[Session]) -> None:
    own = search.for_tenant(1)
    with memos() as session:
        assert len(session.scalars(own.select(Memo, "zorblatt report", limit=50, mode="keyword")).all()) == 20
    assert {ref.tenant for leg in search.admin.legs("zorblatt report", tenant=1).legs for ref in leg.raw} == {"1"}
    figures = evaluate(search, {"q": "quarterly report 3"}, {"q": {"3": 1.0, "103": 1.0}}, tenant=1)
    assert (figures.judged, figures.unknown) == (2, 1)
    assert [status.indexed for status in own.get_status()] == [20]
    assert own.failures() == asyncio.run(own.afailures()) == []
    assert ids(asyncio.run(own.asearch("report 3", limit=1))) == ids(own.search("report 3", limit=1)) == ["3"]
    assert asyncio.run(own.asuggest("zor")) == []
    assert search.admin.state("Memo", 3, tenant=1) is not None
    assert search.admin.state("Memo", 3, tenant=2) is None


def test_a_cursor_of_one_tenant_is_refused_for_another(search: SearchEngine, memos: sessionmaker[Session]) -> None:
    page = search.search("report", entity=Memo, tenant=1, limit=5)
    following = search.search("report", entity=Memo, tenant=1, limit=5, cursor=page.cursor)
    assert following
    assert not set(ids(following)) & set(ids(page))
    for other in (2, [1, 2], ALL_TENANTS):
        with pytest.raises(InvalidInput, match="cursor belongs to another query"):
            search.search("report", entity=Memo, tenant=other, limit=5, cursor=page.cursor)


def test_an_object_for_a_tenant_takes_no_other(search: SearchEngine) -> None:
    own = search.for_tenant("a")
    assert own.index_record("Note", 1, "red fox").indexed == 1
    assert search.for_tenant("b").index_record("Note", 1, "grey wolf").indexed == 1
    assert [(hit.id, hit.matched_text, hit.tenant) for hit in own.search("fox wolf")] == [("1", "red fox", "a")]
    for verb in (own.search, own.suggest):
        with pytest.raises(InvalidInput, match="tenant 'a' alone"):
            verb("fox", tenant="b")
    with pytest.raises(InvalidInput, match="tenant 'a' alone"):
        own.delete_record("Note", 1, tenant="b")
    assert own.delete_record("Note", 1)
    assert own.search("fox") == []
    assert len(search.search("wolf", tenant="b")) == 1
    for missing in (None, ""):
        with pytest.raises(InvalidInput, match="a tenant is needed"):
            search.for_tenant(missing)


def test_a_call_is_for_a_thousand_tenants_at_most(search: SearchEngine) -> None:
    search.index_record("Note", 1, "red fox", tenant="acme")
    tenants = [f"t{number}" for number in range(999)]
    assert ids(search.search("fox", tenant=["acme", *tenants])) == ["1"]
    for calling in (search.search, search.suggest):
        with pytest.raises(InvalidInput, match=r"tenants are 1,000 at most"):
            calling("fox", tenant=(str(number) for number in range(10**9)))


def test_an_index_without_tenants_is_searched_as_before(search: SearchEngine) -> None:
    search.index_record("Note", 1, "red fox")
    assert ids(search.search("fox")) == ids(search.search("fox", tenant=["", "a"])) == ["1"]
    assert search.search("fox", tenant="a") == []
    assert search.suggest("fo") == search.suggest("fo", entity="Note") == ["fox"]
    assert search.suggest("fo", entity="Other") == search.suggest("fo", entities=[]) == []


def test_a_misspelling_in_another_entity_corrects_nothing(search: SearchEngine) -> None:
    records = [("Public", n, f"refund of the order {n}") for n in range(10)]
    search.index_records_batch([*records, ("Salary", 1, "refnud zebulon salary")])
    found = search.search("refnud", entity="Public", mode="keyword")
    assert (len(found), found.plan.corrections) == (10, {"refnud": "refund"})
    assert search.suggest("zeb", entity="Public") == []
    assert search.suggest("zeb", entity="Salary") == ["zebulon"]


def test_sorted_and_counted_records_of_a_tenant_are_its_own(search: SearchEngine) -> None:
    RecordStore(search).create_entity("P", search=["name"], fields={"price": "integer"}, tenant_field="shop")
    for shop, prices in (("a", range(6)), ("b", range(100, 150))):
        own = RecordStore(search.for_tenant(shop))
        own.insert("P", [{"id": str(n), "name": "red tent", "price": price} for n, price in enumerate(prices)])
    found = search.search("tent", entity="P", tenant="a", sort="-price", count=True, facets=["price"], mode="keyword")
    assert ids(found) == ["5", "4", "3", "2", "1", "0"]
    assert found.total == len(found.facets["price"]) == 6


def test_the_command_searches_a_tenant(
    search: SearchEngine, backend: str, command: Callable[..., Any], engine: Engine
) -> None:
    environment = {"KAMELEON_URL": engine.url.render_as_string(hide_password=False)}
    for tenant, words in (("a", "red fox"), ("b", "grey wolf")):
        search.for_tenant(tenant).index_record("Note", 1, words)

    def run(*arguments: str) -> Any:
        return command(*arguments, environment=environment)

    assert run("search", "fox wolf", "--mode", "keyword", "--tenant", "a").stdout.split("\t")[1:] == [
        "Note",
        "1",
        "red fox\n",
    ]
    both = run("search", "fox wolf", "--mode", "keyword", "--all-tenants", "--json").stdout
    assert {hit["tenant"] for hit in json.loads(both)["hits"]} == {"a", "b"}
    assert run("suggest", "wo", "--tenant", "a").stdout == ""
    assert run("suggest", "wo", "--tenant", "b").stdout == "wolf\n"
    refused = run("search", "fox")
    assert (refused.returncode, "Note has tenants" in refused.stderr) == (1, True)
    assert run("search", "fox", "--tenant", "a", "--all-tenants").returncode == 2


def test_the_command_refuses_a_tenant_without_records(
    search: SearchEngine, command: Callable[..., Any], engine: Engine, tmp_path: Path
) -> None:
    search.for_tenant("a").index_record("Note", 1, "red fox")
    environment = {"KAMELEON_URL": engine.url.render_as_string(hide_password=False)}
    file = tmp_path / "t.gz"
    for arguments, message in (
        (("drop", ""), "a tenant is needed here"),
        (("drop", "typo", "--no-confirm"), "the tenant 'typo' has no records in this index. Name it as"),
        (("export", "typo", str(file)), "the tenant 'typo' has no records in this index. Name it as"),
    ):
        done = command("tenants", *arguments, environment=environment)
        assert (done.returncode, message in done.stderr, "Delete all" in done.stderr) == (1, True, False), done
    assert not file.exists()
    assert command("tenants", "drop", "a", "--no-confirm", environment=environment).returncode == 0


# row-level security


class Secured:
    """A role of an application that sets `app.tenant` in each transaction."""

    def __init__(self, search: SearchEngine, sessions: sessionmaker[Session]) -> None:
        self.search, self.sessions = search, sessions

    def session(self, tenant: int) -> Session:
        session = self.sessions()
        session.execute(text(f"SET LOCAL app.tenant = '{tenant}'"))
        return session


@pytest.fixture
def secured(pg_engine: Engine, pg_url: URL, schema: str) -> Iterator[Secured]:
    role = f"{schema}_app"
    Letter.__table__.create(pg_engine)  # type: ignore[attr-defined]
    setting = "nullif(current_setting('app.tenant', true), '')::int"
    with pg_engine.begin() as connection:
        for statement in (
            f"CREATE ROLE {role} LOGIN",
            f"GRANT ALL ON SCHEMA {schema} TO {role}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
            "ALTER TABLE tenants_letter ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY own ON tenants_letter USING (tenant = {setting})",
        ):
            connection.execute(text(statement))
    engine = sqlalchemy.create_engine(pg_url.set(username=role, password=None))
    search = SearchEngine(engine, HashProvider())
    found = Secured(search, search.attach(sessionmaker(engine)))
    for tenant, body in ((1, "bicycle sales"), (2, "zorblatt secret merger bicycle")):
        with found.session(tenant) as session:
            session.add_all(Letter(id=100 * tenant + n, tenant=tenant, title=f"memo {n}", body=body) for n in range(20))
            session.commit()
    yield found
    engine.dispose()
    with pg_engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {role} CASCADE"))
        connection.execute(text(f"DROP ROLE {role}"))


@pytest.mark.parametrize("entity", [Letter, "Letter", None])
@pytest.mark.parametrize("mode", ["hybrid", "keyword", "vector"])
def test_rows_that_policies_hide_are_neither_found_nor_counted(secured: Secured, entity: Any, mode: str) -> None:
    with secured.session(1) as session:
        found = secured.search.search(
            "bicycle zorblatt", entity=entity, session=session, limit=50, count=True, mode=mode, explain=True
        )
        assert sorted(ids(found)) == [str(100 + n) for n in range(20)]
        assert found.total == 20
        assert found.plan.terms == (() if mode == "vector" else ("bicycle",))
        assert len(secured.search.search("zorblatt", entity=entity, session=session, limit=5, mode=mode)) == (
            5 if mode == "vector" else 0
        )


def test_facets_order_similar_and_select_go_through_the_table(secured: Secured) -> None:
    search = secured.search
    with secured.session(1) as session:
        found = search.search("bicycle", entity=Letter, session=session, facets=["tenant"], sort="-id", limit=3)
        assert (ids(found), found.facets) == (["119", "118", "117"], {"tenant": {1: 20}})
        assert len(session.scalars(search.select(Letter, "bicycle zorblatt", limit=50, session=session)).all()) == 20
        assert {int(hit.id) // 100 for hit in search.similar(Letter, 101, limit=50, session=session)} == {1}
        for absent in (201, 999):
            with pytest.raises(RecordMissing, match=f"Letter '{absent}' is not in the index"):
                search.similar(Letter, absent, session=session)
        assert search.suggest("zor", entity=Letter, session=session) == search.suggest("zor", session=session) == []
        corrected = search.search("zorblat", entity=Letter, session=session, mode="keyword")
        assert (corrected, corrected.plan.corrections) == ([], {})
        condition = Letter.status == "open"
        assert (
            search.search("bicycle", entity=Letter, session=session, where=condition, count=True, limit=1).total == 20
        )


def test_the_limit_is_filled_where_policies_leave_few(secured: Secured, pg_engine: Engine) -> None:
    with secured.session(3) as session:
        session.add_all(Letter(id=n, tenant=3, title="memo", body=f"bicycle sale {n}") for n in range(1000, 1003))
        session.commit()
    with secured.session(3) as session:
        for entity in (Letter, None):
            for mode in ("hybrid", "keyword", "vector"):
                found = secured.search.search("bicycle", entity=entity, session=session, limit=3, mode=mode)
                assert sorted(ids(found)) == ["1000", "1001", "1002"], (entity, mode)


def test_a_page_of_candidates_reads_its_own_rows_alone(secured: Secured) -> None:
    index = secured.search.index
    mapped = sessions_of(index).mappings.searchable(Letter)
    among = SecuredClasses(index).rows(mapped)
    scope = Scope(("Letter",), among=among, visible=[("Letter", SecuredClasses(index).rows(mapped, "visible"))])
    plans: list[Any] = []

    def explained(connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "tenants_letter" in statement and not statement.startswith("EXPLAIN"):
            plans.append(connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}", parameters).scalars().all())

    with secured.session(1) as session:
        connection = session.connection()
        docs = index.store.scopes.docs(connection, Scope(("Letter",)), 40) or []
        refs = index.store.contents.refs(connection, docs)
        page = [next(doc for doc, ref in refs.items() if ref.id == id_) for id_ in ("101", "102", "103", "201", "202")]
        event.listen(connection, "before_cursor_execute", explained)
        within = index.store.scopes.within(connection, scope, page)
    assert sorted(refs[doc].id for doc in within) == ["101", "102", "103"]
    read = re.findall(r"on tenants_letter.*actual.*rows=([\d.]+)", "\n".join(plans[0]))
    assert (len(plans), len(read) >= 2, max(map(float, read)) <= len(page)) == (1, True, True), plans


def test_without_a_connection_the_engines_own_role_reads(secured: Secured, pg_engine: Engine) -> None:
    assert secured.search.search("bicycle", entity=Letter) == []
    assert secured.search.search("bicycle", entity=Letter, where=Letter.status == "open") == []
    owner = SearchEngine(pg_engine, HashProvider())
    assert owner.search("bicycle", entity=Letter, limit=50, count=True).total == 40


def test_a_table_that_gets_policies_is_searched_through_them_within_a_second(
    secured: Secured, pg_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kameleon.orm.secured.KEPT_S", 0)
    with pg_engine.begin() as connection:
        connection.execute(text("ALTER TABLE tenants_letter DISABLE ROW LEVEL SECURITY"))
    assert secured.search.search("bicycle", entity=Letter, limit=50, count=True).total == 40
    with pg_engine.begin() as connection:
        connection.execute(text("ALTER TABLE tenants_letter ENABLE ROW LEVEL SECURITY"))
    assert secured.search.search("bicycle", entity=Letter, limit=50, count=True).total == 0


def test_a_policy_on_the_table_of_a_subclass_hides_its_rows(secured: Secured, pg_engine: Engine) -> None:
    tables: list[Any] = [Pet.__table__, Dog.__table__, Puppy.__table__]
    Base.metadata.create_all(pg_engine, tables)
    role = secured.search.engine.url.username
    with pg_engine.begin() as connection:
        for table, condition in (("tenants_dog", "NOT is_secret"), ("tenants_puppy", "weeks > 3")):
            connection.exec_driver_sql(f"GRANT ALL ON tenants_pet, {table} TO {role}")
            connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            connection.exec_driver_sql(f"CREATE POLICY own ON {table} USING ({condition})")
    owner = SearchEngine(pg_engine, HashProvider())
    with owner.attach(sessionmaker(pg_engine)).begin() as session:
        session.add_all(Pet(id=n, name=f"rex {n}") for n in (1, 2))
        session.add_all(Dog(id=n, name=f"rex {n}", is_secret=n == 3) for n in (3, 4))
        session.add_all(Puppy(id=n, name=f"rex {n}", is_secret=n == 5, weeks=n) for n in (5, 6, 7))
        session.add(Puppy(id=8, name="rex 8", is_secret=False, weeks=1))
    assert owner.search("rex", entity=Pet, mode="keyword", count=True).total == 8
    with secured.sessions() as session:
        for entity, expected in ((Pet, "12467"), ("Pet", "12467"), (None, "12467"), (Dog, "467"), (Puppy, "67")):
            found = secured.search.search("rex", entity=entity, session=session, count=True)
            assert (sorted(ids(found)), found.total) == (list(expected), len(expected)), entity
        found = secured.search.search("rex", entity=Pet, session=session, where=Pet.id > 2, count=True)
        assert (sorted(ids(found)), found.total) == (["4", "6", "7"], 3)
        for hidden in ("3", "5", "8"):
            with pytest.raises(RecordMissing):
                secured.search.similar(Pet, hidden, session=session)
        assert sorted(ids(secured.search.similar(Pet, "4", session=session))) == ["1", "2", "6", "7"]


# moving a tenant to another database


@pytest.fixture
def other(backend: str, tmp_path: Path, server: URL) -> Iterator[Callable[..., SearchEngine]]:
    """Engines on the other kind of database."""
    made: list[Engine] = []
    with schema_on(server) as name:

        def build(provider: Any, **options: Any) -> SearchEngine:
            url = url_in(server, name) if backend == "sqlite" else f"sqlite:///{tmp_path / 'other.db'}"
            made.append(sqlalchemy.create_engine(url))
            return SearchEngine(made[-1], provider, **options)

        yield build
        for engine in made:
            engine.dispose()


def fill(search: SearchEngine) -> None:
    """Tenant a has a record of each kind: of the record store, by hand, long, without text; b has the same ids."""
    RecordStore(search).create_entity("Film", search={"title": 3, "text": 1}, tenant_field="owner")
    for tenant, word in (("a", "fox"), ("b", "wolf")):
        own = search.for_tenant(tenant)
        rows = [{"id": str(n), "title": f"red {word} {n}", "text": f"a story {n}", "year": n} for n in range(30)]
        RecordStore(own).insert("Film", rows)
        own.index_records_batch([("Note", n, f"{word} in the snow {n}") for n in range(3)] + [("Note", "empty", " ")])


def found(search: SearchEngine) -> tuple[list[Any], list[float]]:
    """The hits of tenant a in the order of their ids, and their scores: databases add in different orders."""
    own = search.for_tenant("a")
    queries = ("fox", "story 3", '"red fox"', "snow")
    pages = [own.search(query, limit=50, mode=mode) for query in queries for mode in ("hybrid", "keyword", "vector")]
    hits = [hit for page in pages for hit in sorted(page, key=lambda hit: (hit.entity, hit.id))]
    return [(hit.entity, hit.id, hit.data, hit.matched_text) for hit in hits], [hit.score for hit in hits]


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_a_tenant_moves_between_databases_and_is_not_embedded_again(
    search: SearchEngine, other: Callable[..., SearchEngine], tmp_path: Path
) -> None:
    fill(search)
    file = tmp_path / "a.jsonl.gz"
    assert search.admin.export_tenant("a", file) == 34
    provider = HashProvider()
    target = other(provider)
    for _ in range(2):
        report = target.admin.import_tenant(file)
        assert (report.tenant, report.records, report.pending, report.note) == ("a", 34, 0, "")
    assert provider.calls == []
    (hits, scores), (expected, before) = found(target), found(search)
    assert (hits, len(hits) > 100) == (expected, True)
    assert scores == pytest.approx(before, abs=1e-4)
    with pytest.raises(TenantRequired):
        target.search("wolf")
    assert target.search("wolf", tenant=ALL_TENANTS, mode="keyword") == []
    assert (
        RecordStore(target.for_tenant("a")).get("Film", "3").data
        == RecordStore(search.for_tenant("a")).get("Film", "3").data
    )
    assert target.admin.export_tenant("a", tmp_path / "back.jsonl.gz") == 34
    sent, back = (lines_of(path) for path in (file, tmp_path / "back.jsonl.gz"))
    assert sent == back


def test_words_of_fields_with_weights_count_as_before_in_another_database(
    search: SearchEngine, memos: sessionmaker[Session], other: Callable[..., SearchEngine], tmp_path: Path
) -> None:
    provider = HashProvider()
    target = other(provider)
    search.admin.export_tenant(1, tmp_path / "1.jsonl.gz")
    titles = {line["emphasis"].strip() for line in lines_of(tmp_path / "1.jsonl.gz")[1:]}
    assert titles == {f"Quarterly report {n}" for n in range(20)}
    assert target.admin.import_tenant(tmp_path / "1.jsonl.gz").pending == 0
    query = "quarterly bicycles"
    pages = [each.search(query, tenant=1, mode="keyword", limit=50, explain=True) for each in (search, target)]
    before, after = ([(hit.id, hit.explanation[0].raw) for hit in page] for page in pages)
    assert (len(before) == 20, [id_ for id_, _ in after]) == (True, [id_ for id_, _ in before])
    assert [raw for _, raw in after] == pytest.approx([raw for _, raw in before], abs=1e-6)
    states = [each.index.state(Ref("Memo", before[0][0], "1")) for each in (search, target)]
    assert states[0] == states[1] is not None
    with search.engine.begin() as connection:
        connection.execute(text("UPDATE tenants_memo SET title = 'changed past the index'"))
    search.admin.export_tenant(1, tmp_path / "2.jsonl.gz")
    assert {line["emphasis"] for line in lines_of(tmp_path / "2.jsonl.gz")[1:]} == {""}


def test_what_the_models_do_not_share_is_pending(
    search: SearchEngine, other: Callable[..., SearchEngine], tmp_path: Path
) -> None:
    fill(search)
    file = tmp_path / "a.jsonl.gz"
    search.admin.export_tenant("a", file)
    target = other(HashProvider(model_name="another"))
    report = target.admin.import_tenant(file)
    assert (report.records, report.embedded, report.pending) == (34, 0, 33)
    assert "the embeddings of the file are hash's, this engine's model is another" in report.note
    assert ids(target.search("fox", tenant="a", mode="keyword", limit=50)) != []
    assert target.sync().embedded == 33


def test_what_was_pending_is_pending_in_the_other_database(
    search: SearchEngine, make: Make, other: Callable[..., SearchEngine], tmp_path: Path
) -> None:
    search.for_tenant("a").index_record("Note", 1, "red fox")
    make(None).for_tenant("a").index_record("Note", 2, "red wolf")
    search.admin.export_tenant("a", tmp_path / "a.gz")
    report = other(HashProvider()).admin.import_tenant(tmp_path / "a.gz")
    assert (report.embedded, report.pending, report.note) == (1, 1, "")


def test_a_file_that_is_no_export_is_refused(search: SearchEngine, tmp_path: Path) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other.gz"
    plain.write_text("red fox")
    other.write_bytes(gzip.compress(b'{"format": "other"}\n'))
    for file in (plain, other):
        with pytest.raises(InvalidInput, match=r"tenants export|has the format"):
            search.admin.import_tenant(file)
    with pytest.raises(InvalidInput, match="a tenant is needed"):
        search.admin.export_tenant("", tmp_path / "x.gz")


HEADER: dict[str, Any] = {"format": "kameleon tenant 1", "tenant": "a", "entities": [], "model": None}
RECORD: dict[str, Any] = {
    "entity": "Note",
    "id": "1",
    "content": "fox",
    "emphasis": "",
    "layout": "",
    "data": None,
    "made": [],
}


@pytest.mark.parametrize(
    ("header", "record"),
    [
        ({"entities": [{"name": "Film"}]}, {}),
        ({"entities": None}, {}),
        ({"model": {"name": "x"}}, {}),
        *(({}, wrong) for wrong in ({"content": 5}, {"layout": "x"}, {"layout": None}, {"data": [1]}, {"made": 1})),
    ],
)
def test_an_export_that_was_edited_is_refused(
    search: SearchEngine, tmp_path: Path, header: dict[str, Any], record: dict[str, Any]
) -> None:
    file = tmp_path / "a.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, ({**HEADER, **header}, {**RECORD, **record}))).encode()))
    with pytest.raises(InvalidInput, match=r"tenants export|export the tenant"):
        search.admin.import_tenant(file)


def test_a_tenant_that_is_dropped_is_gone_and_others_are_as_they_were(search: SearchEngine) -> None:
    fill(search)
    other = search.for_tenant("b")
    before = other.search("wolf story snow", limit=50, explain=True)
    search.for_tenant("a").search("fox")
    assert search.admin.drop_tenant("a") == 34
    own = search.for_tenant("a")
    found: list[list[Any]] = [own.search("fox"), own.suggest("fo"), own.get_status(), RecordStore(own).list("Film")]
    assert found == [[], [], [], []]
    assert search.search("fox", tenant=ALL_TENANTS, mode="keyword") == []
    assert list(other.search("wolf story snow", limit=50, explain=True)) == list(before) != []
    assert search.admin.drop_tenant("a") == 0
    with pytest.raises(InvalidInput, match="a tenant is needed"):
        search.admin.drop_tenant("")


def test_what_is_left_of_an_export_is_refused_with_its_line(
    search: SearchEngine, other: Callable[..., SearchEngine], tmp_path: Path
) -> None:
    search.for_tenant("a").index_records_batch([("Note", n, f"note {n} of the fox") for n in range(3)])
    whole, part = tmp_path / "whole.gz", tmp_path / "part.gz"
    search.admin.export_tenant("a", whole)
    part.write_bytes(whole.read_bytes()[:-40])
    target = other(HashProvider())
    with pytest.raises(InvalidInput, match=r"part.gz, line \d+: .*export the tenant again"):
        target.admin.import_tenant(part)
    with gzip.open(whole, "rt", encoding="utf-8") as lines:
        header, first, *_ = lines
    for line in ('{"entity": "Note"}', "{", first.replace('"Note"', '""', 1)):
        with gzip.open(part, "wt", encoding="utf-8") as out:
            out.write(f"{header}{line}\n")
        with pytest.raises(InvalidInput, match=r"part.gz, line 2: "):
            target.admin.import_tenant(part)
    assert target.get_status() == []
    assert target.admin.import_tenant(whole).records == 3


def test_the_doctor_is_not_one_tenants(search: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match="give it the SearchEngine"):
        examine(search.for_tenant("a"))
