"""What is written of a tenant is under that tenant, and moves with it in the same commit."""

import asyncio
import enum
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, delete, event, insert, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from kameleon import ALL_TENANTS, RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.errors import (
    InvalidInput,
    InvalidRecord,
    RecordExists,
    RecordMissing,
    TenantRequired,
    UnknownEntity,
)
from kameleon.orm.declaration import declared
from kameleon.testing import HashProvider, assert_indexed, assert_not_indexed
from kameleon.values import IndexStatus

from .conftest import Make, ids, with_async, with_citus


class Base(DeclarativeBase):
    pass


class Plan(enum.Enum):
    FREE = "free"
    PAID = "paid"


class OwnOrg(Base):
    __tablename__ = "own_org"

    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str]


@searchable(fields={"title": 2, "body": 1}, tenant="org_id")
class OwnDoc(Base):
    __tablename__ = "own_doc"

    id: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[int | None] = mapped_column(ForeignKey("own_org.id"))
    title: Mapped[str]
    body: Mapped[str] = mapped_column(default="plain")
    org: Mapped[OwnOrg | None] = relationship()


@searchable(fields=["text"], tenant=lambda file: file.org and file.org.region, depends_on=["org"])
class OwnFile(Base):
    __tablename__ = "own_file"

    id: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[int | None] = mapped_column(ForeignKey("own_org.id"))
    text: Mapped[str]
    org: Mapped[OwnOrg | None] = relationship()


@searchable(fields=["text"], tenant="owner", when=lambda note: note.is_shown, name="OwnMemo")
class OwnNote(Base):
    __tablename__ = "own_note"

    section: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[uuid.UUID | None]
    text: Mapped[str]
    is_shown: Mapped[bool] = mapped_column(default=True)


@searchable(fields=["text"], tenant="plan")
class OwnPage(Base):
    __tablename__ = "own_page"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="page")
    plan: Mapped[Plan | None]
    text: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "page"}  # noqa: RUF012


class OwnGuide(OwnPage):
    __tablename__ = "own_guide"

    id: Mapped[int] = mapped_column(ForeignKey("own_page.id"), primary_key=True)
    level: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"polymorphic_identity": "guide"}  # noqa: RUF012


@searchable(fields=["text"], tenant="owner")
class OwnItem(Base):
    __tablename__ = "own_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    text: Mapped[str]


class OwnPart(OwnItem):
    __tablename__ = "own_part"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(default="stock")
    text: Mapped[str]
    __mapper_args__ = {"concrete": True}  # noqa: RUF012


Maker = sessionmaker[Session]
Held = Callable[[], dict[tuple[str, str], tuple[str, str]]]


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> Maker:
    Base.metadata.create_all(engine)
    made = search.attach(sessionmaker(engine))
    with made.begin() as session:
        session.add_all([OwnOrg(id=1, region="north"), OwnOrg(id=2, region="south")])
    return made


@pytest.fixture
def held(engine: Engine, search: SearchEngine, maker: Maker) -> Held:
    """The tenant and the text that the index has of each record, checked against the tables."""

    def check() -> dict[tuple[str, str], tuple[str, str]]:
        found: dict[tuple[str, str], tuple[str, str]] = {}
        with engine.connect() as connection:
            stored = connection.execute(text("SELECT tenant, entity_name, record_id, content FROM kdb_search"))
            for tenant, entity, id_, content in stored:
                assert found.setdefault((entity, id_), (tenant, content)) == (tenant, content)
        assert [each for each in examine(search) if each.severity != "note"] == []
        return found

    return check


@pytest.fixture
def doc(maker: Maker, held: Held) -> int:
    """The id of a OwnDoc of the first organisation."""
    with maker.begin() as session:
        session.add(OwnDoc(id=1, org_id=1, title="Lamp"))
    assert held() == {("OwnDoc", "1"): ("1", "Lamp\nplain")}
    return 1


OWNER = uuid.UUID("6f1c3e0a-8f0e-4f43-9f57-1b3fdf0ec3aa")


# declared


def test_a_new_record_is_its_tenants(maker: Maker, held: Held) -> None:
    expected = [
        (OwnDoc(id=7, org_id=2, title="a"), ("OwnDoc", "7"), "2"),
        (OwnDoc(id=8, org=OwnOrg(id=3, region="east"), title="a"), ("OwnDoc", "8"), "3"),
        (OwnDoc(id=9, title="a"), ("OwnDoc", "9"), ""),
        (OwnFile(id=7, org_id=2, text="a"), ("OwnFile", "7"), "south"),
        (OwnFile(id=8, text="a"), ("OwnFile", "8"), ""),
        (OwnNote(section="s", number=2, owner=OWNER, text="a"), ("OwnMemo", '["s",2]'), str(OWNER)),
        (OwnPage(id=7, plan=Plan.PAID, text="a"), ("OwnPage", "7"), "paid"),
        (OwnGuide(id=8, plan=Plan.FREE, text="a"), ("OwnPage", "8"), "free"),
        (OwnItem(id=7, owner="ann", text="a"), ("OwnItem", "7"), "ann"),
        (OwnPart(id=7, text="a"), ("OwnPart", "7"), "stock"),
    ]
    with maker.begin() as session:
        session.add_all([obj for obj, _, _ in expected])
    assert {key: tenant for key, (tenant, _) in held().items()} == {key: tenant for _, key, tenant in expected}
    with maker() as session:
        for obj, _, _ in expected:
            assert_indexed(session.merge(obj))


REFUSED: dict[Any, str] = {
    "organisation": "has no attribute 'organisation'",
    "org": "is a relationship: name the column that it goes by, tenant='org_id'",
    OwnOrg.__table__.c.region: "own_org.region is no column of Wrong",
    3: "tenant is an attribute's name, a column or a function of the object, not 3",
}


def test_what_cannot_be_a_tenant_is_refused(search: SearchEngine) -> None:
    class Wrong(Base):
        __tablename__ = "wrong"

        id: Mapped[int] = mapped_column(primary_key=True)
        org_id: Mapped[int] = mapped_column(ForeignKey("own_org.id"))
        title: Mapped[str]
        org: Mapped[OwnOrg] = relationship()

    try:
        for tenant, message in REFUSED.items():
            with pytest.raises(InvalidInput, match=message):
                search.track(searchable(fields=["title"], tenant=tenant)(Wrong))
    finally:
        forget(Wrong)


def forget(cls: Any) -> None:
    """Undo what a test declared."""
    if "__searchable__" in vars(cls):
        del cls.__searchable__
    declared.discard(cls)
    Base.metadata.remove(cls.__table__)
    Base.registry._dispose_cls(cls)


def test_a_tenant_is_named_by_column_or_attribute_too(maker: Maker, held: Held) -> None:
    class Sheet(Base):
        __tablename__ = "sheet"

        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str] = mapped_column("owner_name")
        text: Mapped[str]

    class Chart(Base):
        __tablename__ = "chart"

        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str]
        text: Mapped[str]

    searchable(fields=["text"], tenant=Sheet.__table__.c.owner_name)(Sheet)
    searchable(fields=["text"], tenant=Chart.owner)(Chart)
    try:
        with maker.begin() as session:
            Base.metadata.create_all(session.connection())
            session.add_all([Sheet(id=1, owner="t1", text="a"), Chart(id=1, owner="t2", text="b")])
        assert held() == {("Sheet", "1"): ("t1", "a"), ("Chart", "1"): ("t2", "b")}
    finally:
        forget(Sheet)
        forget(Chart)


def test_a_value_that_is_no_tenant_is_refused_with_its_record(maker: Maker, held: Held, doc: int) -> None:
    @event.listens_for(OwnOrg, "load")
    def spoil(org: OwnOrg, _context: Any) -> None:
        org.__dict__["region"] = 1.5

    try:
        message = r"the tenant of OwnFile \(4,\): a tenant is text .*not float \(1.5\)"
        with pytest.raises(InvalidRecord, match=message), maker.begin() as session:
            session.add(OwnFile(id=4, org_id=1, text="a"))
    finally:
        event.remove(OwnOrg, "load", spoil)
    assert ("OwnFile", "4") not in held()


# moved


def by_object(session: Session) -> None:
    session.get_one(OwnDoc, 1).org_id = 2


def by_relationship(session: Session) -> None:
    session.get_one(OwnDoc, 1).org = session.get_one(OwnOrg, 2)


def by_bulk_update(session: Session) -> None:
    session.execute(update(OwnDoc).where(OwnDoc.title == "Lamp").values(org_id=2))


def by_primary_key(session: Session) -> None:
    session.execute(update(OwnDoc), [{"id": 1, "org_id": 2}])


def by_expired_object(session: Session) -> None:
    found = session.get_one(OwnDoc, 1)
    session.execute(text("UPDATE own_doc SET org_id = 2 WHERE id = 1"))
    session.expire(found)
    found.title = "Lamp "
    session.flush()
    found.title = "Lamp"


MOVES = [by_object, by_relationship, by_bulk_update, by_primary_key, by_expired_object]


@pytest.mark.parametrize("backend", with_async(*with_citus("sqlite", "postgresql")), indirect=True)
@pytest.mark.parametrize("move", MOVES)
def test_a_record_moves_with_its_tenant_in_the_same_commit(
    maker: Maker, held: Held, doc: int, move: Callable[[Session], None], provider: HashProvider
) -> None:
    calls = len(provider.calls)
    with maker() as session:
        move(session)
        session.rollback()
    assert held() == {("OwnDoc", "1"): ("1", "Lamp\nplain")}
    with maker() as session:
        with session.begin_nested() as inner:
            move(session)
            session.flush()
            inner.rollback()
        session.commit()
    assert held() == {("OwnDoc", "1"): ("1", "Lamp\nplain")}
    with maker.begin() as session:
        move(session)
    assert held() == {("OwnDoc", "1"): ("2", "Lamp\nplain")}
    if move is not by_expired_object:
        assert len(provider.calls) == calls, "the text is the same"


def test_a_record_moves_and_changes_or_goes(maker: Maker, held: Held, doc: int) -> None:
    with maker.begin() as session:
        found = session.get_one(OwnDoc, 1)
        found.org_id, found.title = 2, "Desk"
    assert held() == {("OwnDoc", "1"): ("2", "Desk\nplain")}
    with maker.begin() as session:
        session.get_one(OwnDoc, 1).org_id = None
    assert held() == {("OwnDoc", "1"): ("", "Desk\nplain")}
    with maker.begin() as session:
        found = session.get_one(OwnDoc, 1)
        found.org_id = 1
        session.flush()
        session.delete(found)
    assert held() == {}


def test_records_of_many_tenants_are_deleted_at_once(maker: Maker, held: Held) -> None:
    with maker.begin() as session:
        session.execute(insert(OwnDoc), [{"id": n, "org_id": 1 + n % 2, "title": f"t{n}"} for n in range(1, 8)])
    assert {tenant for tenant, _ in held().values()} == {"1", "2"}
    with maker.begin() as session:
        session.execute(delete(OwnDoc).where(OwnDoc.id < 6))
        session.delete(session.get_one(OwnDoc, 6))
    assert held() == {("OwnDoc", "7"): ("2", "t7\nplain")}


def test_a_related_object_moves_what_depends_on_it(maker: Maker, held: Held) -> None:
    with maker.begin() as session:
        session.add_all([OwnFile(id=1, org_id=1, text="a"), OwnFile(id=2, org_id=2, text="b")])
    with maker.begin() as session:
        session.get_one(OwnOrg, 1).region = "west"
    assert held() == {("OwnFile", "1"): ("west", "a"), ("OwnFile", "2"): ("south", "b")}
    with maker.begin() as session:
        session.execute(update(OwnOrg).where(OwnOrg.id == 2).values(region="west"))
    assert held() == {("OwnFile", "1"): ("west", "a"), ("OwnFile", "2"): ("west", "b")}


def test_classes_that_inherit_move_too(maker: Maker, held: Held) -> None:
    with maker.begin() as session:
        session.add_all([OwnGuide(id=1, plan=Plan.FREE, text="a"), OwnPart(id=1, owner="ann", text="b")])
        session.add(OwnItem(id=1, owner="bob", text="c"))
    with maker.begin() as session:
        session.get_one(OwnPage, 1).plan = Plan.PAID
        session.execute(update(OwnPart).values(owner="eve"))
    assert held() == {("OwnPage", "1"): ("paid", "a"), ("OwnPart", "1"): ("eve", "b"), ("OwnItem", "1"): ("bob", "c")}


def test_what_when_keeps_out_leaves_its_tenant(maker: Maker, held: Held) -> None:
    with maker.begin() as session:
        session.add(OwnNote(section="s", number=1, owner=OWNER, text="a"))
    with maker.begin() as session:
        found = session.get_one(OwnNote, ("s", 1))
        found.owner, found.is_shown = None, False
    assert held() == {}
    with maker() as session:
        assert_not_indexed(session.get_one(OwnNote, ("s", 1)))
    with maker.begin() as session:
        session.get_one(OwnNote, ("s", 1)).is_shown = True
    assert held() == {("OwnMemo", '["s",1]'): ("", "a")}


def test_two_flushes_of_two_tenants_are_one_move(maker: Maker, held: Held, doc: int) -> None:
    with maker.begin() as session:
        found = session.get_one(OwnDoc, 1)
        for org in (2, 1, 2):
            found.org_id = org
            session.flush()
            sessions_write(session)
    assert held() == {("OwnDoc", "1"): ("2", "Lamp\nplain")}


def sessions_write(session: Session) -> None:
    """As `search.flush` does."""
    for sessions in session.kameleon:  # type: ignore[attr-defined]
        sessions.write(session)


# past the sessions


def test_raw_sql_moves_what_triggers_mark(
    search: SearchEngine, engine: Engine, maker: Maker, held: Held, doc: int
) -> None:
    search.track(OwnDoc)
    with engine.begin() as connection:
        connection.execute(text("UPDATE own_doc SET org_id = 2"))
        connection.execute(text("INSERT INTO own_doc (id, org_id, title, body) VALUES (2, 1, 'Desk', 'b')"))
        marks = connection.execute(text("SELECT tenant, record_id FROM kdb_dirty")).all()
    assert sorted(tuple(mark) for mark in marks) == [("1", "1"), ("1", "2"), ("2", "1")]
    search.sync()
    assert held() == {("OwnDoc", "1"): ("2", "Lamp\nplain"), ("OwnDoc", "2"): ("1", "Desk\nb")}
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM own_doc WHERE id = 1"))
    search.sync()
    assert held() == {("OwnDoc", "2"): ("1", "Desk\nb")}
    search.untrack(OwnDoc)


def test_marks_have_the_tenant_where_the_table_does(search: SearchEngine, engine: Engine, maker: Maker) -> None:
    for cls in (OwnNote, OwnPage, OwnPart, OwnFile):
        search.track(cls)
    with engine.begin() as connection:
        connection.execute(insert(OwnNote), {"section": "s", "number": 1, "owner": OWNER, "text": "a"})
        connection.execute(insert(OwnPage), {"id": 1, "plan": Plan.PAID, "text": "a"})
        connection.execute(insert(OwnPart), {"id": 1, "owner": "ann", "text": "a"})
        connection.execute(insert(OwnFile), {"id": 1, "org_id": 1, "text": "a"})
        marks = connection.execute(text("SELECT entity_name, tenant FROM kdb_dirty ORDER BY seq")).all()
    assert [tuple(mark) for mark in marks] == [
        ("OwnMemo", str(OWNER)),
        ("OwnPage", ""),
        ("OwnPart", "ann"),
        ("OwnFile", ""),
    ]
    search.sync()
    assert {key[:2] for key, _ in stored(engine)} == {
        (str(OWNER), "OwnMemo"),
        ("paid", "OwnPage"),
        ("ann", "OwnPart"),
        ("north", "OwnFile"),
    }
    for cls in (OwnNote, OwnPage, OwnPart, OwnFile):
        search.untrack(cls)


def test_the_doctor_finds_and_moves_a_record_of_another_tenant(
    search: SearchEngine, engine: Engine, held: Held, doc: int, provider: HashProvider
) -> None:
    calls = len(provider.calls)
    with engine.begin() as connection:
        connection.execute(text("UPDATE own_doc SET org_id = 2"))
    found = {each.check: each for each in examine(search) if each.entity == "OwnDoc"}
    assert {check: (each.count, each.ids) for check, each in found.items()} == {
        "missing": (1, ("2/1",)),
        "orphaned": (1, ("1/1",)),
    }
    assert [each.check for each in examine(search, tenant=1) if each.entity == "OwnDoc"] == ["orphaned"]
    assert [each.check for each in examine(search, tenant="2") if each.entity == "OwnDoc"] == ["missing"]
    assert [each for each in examine(search, tenant="3") if each.entity == "OwnDoc"] == []
    examine(search, fix=True)
    assert held() == {("OwnDoc", "1"): ("2", "Lamp\nplain")}
    assert len(provider.calls) == calls


def test_a_class_that_got_tenants_later_is_unindexed_and_moves(
    search: SearchEngine, engine: Engine, maker: Maker, held: Held, doc: int
) -> None:
    with maker.begin() as session:
        session.add(OwnDoc(id=2, title="of none"))
        session.add(OwnFile(id=1, org_id=1, text="made in Python"))
        session.add(OwnNote(section="s", number=1, owner=OWNER, text="of an owner"))
    assert {each.entity: each.unindexed for each in search.get_status()} == {"OwnDoc": 0, "OwnFile": 0, "OwnMemo": 0}
    with engine.begin() as connection:
        for table in ("kdb_search", "kdb_queue"):
            connection.execute(text(f"UPDATE {table} SET tenant = '' WHERE entity_name IN ('OwnDoc', 'OwnMemo')"))
    assert {each.entity: each.unindexed for each in search.get_status()} == {"OwnDoc": 1, "OwnFile": 0, "OwnMemo": 1}
    assert {each.entity: each.unindexed for each in search.get_status(tenant=1)} == {"OwnDoc": 1}
    assert [(each.entity, each.unindexed) for each in search.get_status(tenant="")] == [("OwnDoc", 0), ("OwnMemo", 0)]
    search.sync()
    assert {each.entity: each.unindexed for each in search.get_status()} == {"OwnDoc": 0, "OwnFile": 0, "OwnMemo": 0}
    assert {key: tenant for key, (tenant, _) in rows(engine).items()} == {
        ("OwnDoc", "1"): "1",
        ("OwnDoc", "2"): "",
        ("OwnFile", "1"): "north",
        ("OwnMemo", '["s",1]'): str(OWNER),
    }


def rows(engine: Engine) -> dict[tuple[str, str], tuple[str, str]]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT tenant, entity_name, record_id, content FROM kdb_search")).all()
    return {(entity, id_): (tenant, content) for tenant, entity, id_, content in found}


# by hand


def test_records_of_one_key_in_two_tenants_are_two(search: SearchEngine, engine: Engine) -> None:
    for tenant, content in ((1, "of one"), ("2", "of two"), (OWNER, "of an owner"), (Plan.PAID, "of a plan")):
        assert search.index_records_batch([("Film", "7", content)], tenant=tenant).indexed == 1
    assert search.index_record("Film", "7", "of none", tenant="").indexed == 1
    assert dict(stored(engine)) == {
        ("1", "Film", "7"): "of one",
        ("2", "Film", "7"): "of two",
        (str(OWNER), "Film", "7"): "of an owner",
        ("paid", "Film", "7"): "of a plan",
        ("", "Film", "7"): "of none",
    }
    assert search.delete_record("Film", "7", tenant=1)
    assert not search.delete_record("Film", "7", tenant=1)
    assert search.delete_records([("Film", "7"), ("Film", "8")], tenant="") == 1
    assert sorted(tenant for (tenant, _, _), _ in stored(engine)) == ["2", str(OWNER), "paid"]


def stored(engine: Engine) -> list[tuple[tuple[str, str, str], str]]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT tenant, entity_name, record_id, content FROM kdb_search")).all()
    return [((tenant, entity, id_), content) for tenant, entity, id_, content in found]


def test_a_write_without_a_tenant_is_refused_where_there_are_any(search: SearchEngine, make: Make) -> None:
    search.index_record("Film", "1", "a", tenant="t1")
    search.index_record("Book", "1", "a")
    other = make(None)
    with pytest.raises(TenantRequired, match="Film has tenants"):
        other.index_record("Film", "1", "b")
    with pytest.raises(TenantRequired, match="Film has tenants"):
        other.delete_records([("Book", "1"), ("Film", "1")])
    with other.engine.begin() as connection, pytest.raises(TenantRequired):
        other.index_record("Film", "1", "b", connection=connection)
    assert other.delete_records([("Book", "1")]) == 1


def test_a_value_that_is_no_tenant_writes_nothing(search: SearchEngine, engine: Engine) -> None:
    for tenant in (1.5, True, "a\0b", "x" * 256, b"t"):
        with pytest.raises(InvalidRecord, match="a tenant"):
            search.index_record("Film", "1", "a", tenant=tenant)
    assert stored(engine) == []


def test_an_attached_session_commits_the_tenants_records(search: SearchEngine, engine: Engine, maker: Maker) -> None:
    with maker.begin() as session:
        session.add(OwnDoc(id=1, org_id=1, title="Lamp"))
        search.index_records_batch([("Film", "1", "of one")], tenant=1, session=session)
        search.index_records_batch([("Film", "1", "of two")], tenant=2, session=session)
    with maker.begin() as session:
        search.delete_record("Film", "1", tenant=2, session=session)
        search.index_record("OwnDoc", "1", "by another tenant", tenant=2, session=session)
        search.delete_record("OwnDoc", "1", tenant=3, session=session)
    assert dict(stored(engine)) == {
        ("1", "OwnDoc", "1"): "Lamp\nplain",
        ("1", "Film", "1"): "of one",
        ("2", "OwnDoc", "1"): "by another tenant",
    }


def test_status_failures_and_sync_are_of_the_tenants(make: Make) -> None:
    refusing = HashProvider(refuse=lambda content: ValueError("no") if "bad" in content else None)
    plain, search = make(None), make(refusing)
    for tenant, texts in (("t1", ["good", "bad"]), ("t2", ["good", "fine", "bad bad"]), ("", ["good"])):
        plain.index_records_batch([("Film", n, content) for n, content in enumerate(texts)], tenant=tenant)
    search.sync(tenant="t1")
    counted = {tenant: counts(search.get_status("Film", tenant=tenant)) for tenant in ("t1", "t2", "", "t3")}
    assert counted == {"t1": (2, 0, 1), "t2": (3, 3, 0), "": (1, 1, 0), "t3": None}
    assert counts(search.get_status("Film", tenant=["t1", ""])) == (3, 1, 1)
    search.sync()
    assert counts(search.get_status("Film")) == (6, 0, 2)
    assert [(each.tenant, each.id) for each in search.failures(tenant="t2")] == [("t2", "2")]
    assert [(each.tenant, each.id) for each in search.failures()] == [("t1", "1"), ("t2", "2")]


def counts(found: list[IndexStatus]) -> tuple[int, int, int] | None:
    return (found[0].indexed, found[0].pending, found[0].failed) if found else None


# the record store


@pytest.fixture
def orders(search: SearchEngine) -> RecordStore:
    records = RecordStore(search)
    records.create_entity("Order", search=["text"], tenant_field="org")
    records.insert("Order", [{"id": 1, "org": "a", "text": "Blue lamp"}, {"id": 1, "org": "b", "text": "Green lamp"}])
    return records


def test_an_entity_is_divided_by_a_field(orders: RecordStore, engine: Engine) -> None:
    assert orders.entity("Order").tenant_field == "org"
    assert orders.get("Order", 1, tenant="a").data == {"org": "a", "text": "Blue lamp"}
    assert [(each.tenant, each.id) for each in orders.list("Order", tenant="b")] == [("b", "1")]
    assert [each.tenant for each in orders.list("Order", tenant=ALL_TENANTS)] == ["a", "b"]
    assert [each.tenant for each in orders.list("Order", tenant=["b", "c"], where={"new": None})] == ["b"]
    with pytest.raises(RecordExists):
        orders.insert("Order", [{"id": 1, "org": "a", "text": "another"}])
    assert orders.insert("Order", [{"id": 1, "org": "c", "text": "Red"}], on_conflict="replace").inserted == 1
    assert orders.insert("Order", [{"id": 1, "org": "c", "text": "Red2"}], on_conflict="replace").updated == 1
    assert orders.insert("Order", [{"id": 1, "text": "Grey"}], tenant=5).inserted == 1
    assert orders.get("Order", 1, tenant="5").data == {"org": 5, "text": "Grey"}
    assert orders.insert("Order", [{"id": 1, "org": None, "text": "of none"}]).inserted == 1
    assert orders.delete("Order", [1], tenant="a") == 1
    assert orders.delete("Order", [1], tenant=["b", "c"]) == 2
    assert sorted(stored(engine)) == [(("", "Order", "1"), "of none"), (("5", "Order", "1"), "Grey")]


def test_a_record_whose_tenant_is_not_known_is_refused(orders: RecordStore) -> None:
    for record, tenant, message in (
        ({"text": "x"}, None, "Order '2' has no field 'org', which names its tenant: give it one, or null"),
        ({"org": 1.5, "text": "x"}, None, "Order '2', field 'org': a tenant is text"),
        ({"org": "b", "text": "x"}, "a", "Order '2' is of the tenant 'b' by its field 'org', and the call is"),
    ):
        with pytest.raises(InvalidRecord, match=message) as caught:
            orders.insert("Order", [{"id": 3, "org": "a", "text": "y"}, {"id": 2, **record}], tenant=tenant)
        assert caught.value.position == 1
    assert len(orders.list("Order", tenant=ALL_TENANTS)) == 2


def test_a_call_without_a_tenant_is_refused(orders: RecordStore) -> None:
    for call in (
        lambda: orders.get("Order", 1),
        lambda: orders.list("Order"),
        lambda: orders.update("Order", 1, {"text": "x"}),
        lambda: orders.delete("Order", [1]),
    ):
        with pytest.raises(TenantRequired, match="Order has tenants"):
            call()
    with pytest.raises(InvalidInput, match="one tenant is needed here"):
        orders.get("Order", 1, tenant=ALL_TENANTS)
    with pytest.raises(RecordMissing):
        orders.get("Order", 1, tenant="c")


def test_an_update_moves_a_record_to_another_tenant(
    orders: RecordStore, engine: Engine, search: SearchEngine, provider: HashProvider
) -> None:
    before = orders.get("Order", 1, tenant="b")
    calls = len(provider.calls)
    assert orders.update("Order", 1, {"org": "d", "note": "not searched"}, tenant="b").tenant == "d"
    assert orders.update("Order", 1, {"org": "b"}, tenant="d", replace_all=False).tenant == "b"
    assert (len(provider.calls), counts(search.get_status("Order"))) == (calls, (2, 0, 0)), "the text is the same"
    assert ids(search.search("Green lamp", entity="Order", tenant="b", mode="vector")) == ["1"]
    assert search.search("lamp", entity="Order", tenant="d").total == 0
    orders.update("Order", 1, {"org": "b", "text": "Green lamp"}, tenant="b", replace_all=True)
    moved = orders.update("Order", 1, {"org": "c", "text": "Red lamp"}, tenant="b")
    assert (moved.tenant, moved.created_at, moved.data) == ("c", before.created_at, {"org": "c", "text": "Red lamp"})
    assert sorted(stored(engine)) == [(("a", "Order", "1"), "Blue lamp"), (("c", "Order", "1"), "Red lamp")]
    with pytest.raises(RecordExists, match="of the tenant 'a' already"):
        orders.update("Order", 1, {"org": "a"}, tenant="c")
    assert orders.update("Order", 1, {"text": "Grey"}, tenant="c", replace_all=True).data == {
        "org": "c",
        "text": "Grey",
    }
    assert orders.update("Order", 1, {"org": None}, tenant="c").tenant == ""
    assert [each for each in examine(search) if each.severity != "note"] == []


def test_a_tenant_is_given_with_each_call(search: SearchEngine, engine: Engine) -> None:
    records = RecordStore(search)
    assert records.insert("Task", [{"id": 1, "text": "to do it"}]).inserted == 1
    assert records.entity("Task").tenant_field is None
    assert records.insert("Task", [{"id": 1, "text": "to do that", "more": 1}], tenant="a").inserted == 1
    assert (records.entity("Task").tenant_field, records.entity("Task").field_names) == ("", ("text",))
    with pytest.raises(TenantRequired):
        records.get("Task", 1)
    with pytest.raises(TenantRequired):
        records.insert("Task", [{"id": 2, "text": "of whom"}])
    assert records.update("Task", 1, {"text": "done"}, tenant="a").data == {"text": "done", "more": 1}
    made = records.insert("Bill", [{"id": 1, "org": "long name", "text": "to be paid"}], tenant_field="org")
    assert made.created_entity is not None
    assert (made.created_entity.tenant_field, made.created_entity.searchable) == ("org", ("text",))
    with pytest.raises(InvalidInput, match="the tenants of Bill are those of the field 'org'"):
        records.insert("Bill", [{"id": 2, "owner": "x", "text": "y"}], tenant_field="owner")
    assert sorted(stored(engine)) == [
        (("", "Task", "1"), "to do it"),
        (("a", "Task", "1"), "done"),
        (("long name", "Bill", "1"), "to be paid"),
    ]


def test_a_store_of_one_tenant_has_no_other(orders: RecordStore, search: SearchEngine) -> None:
    own = RecordStore(search.for_tenant("a"))
    assert [each.data["text"] for each in own.list("Order")] == ["Blue lamp"]
    assert own.insert("Order", [{"id": 2, "text": "Desk"}]).inserted == 1
    assert own.update("Order", 2, {"text": "Chair"}).data == {"org": "a", "text": "Chair"}
    assert own.delete("Order", [1, 2]) == 2
    for call, error in (
        (lambda: own.get("Order", 1, tenant="b"), InvalidInput),
        (lambda: own.get("Order", 1), RecordMissing),
        (lambda: own.insert("Order", [{"id": 3, "org": "b", "text": "x"}]), InvalidRecord),
        (lambda: own.insert("New", [{"id": 3, "text": "x"}]), UnknownEntity),
        (lambda: own.create_entity("New", search=["text"]), InvalidInput),
    ):
        with pytest.raises(error):
            call()
    own.insert("Order", [{"id": 4, "text": "Bed"}])
    with pytest.raises(InvalidRecord, match="would leave the tenant"):
        own.update("Order", 4, {"org": "b"})
    assert [each.id for each in orders.list("Order", tenant="b")] == ["1"]


def test_the_doctor_repairs_the_records_of_a_tenant(orders: RecordStore, search: SearchEngine, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM kdb_records WHERE tenant = 'a'"))
        connection.execute(text("UPDATE kdb_records SET tenant = 'c' WHERE tenant = 'b'"))
    found = {(each.check, each.ids) for each in examine(search) if each.entity == "Order"}
    assert found == {("missing", ("c/1",)), ("orphaned", ("a/1", "b/1"))}
    examine(search, fix=True, batch_size=1)
    assert stored(engine) == [(("c", "Order", "1"), "Green lamp")]


async def writes_and_deletes(search: SearchEngine) -> None:
    records = RecordStore(search)
    await search.aindex_record("Film", 1, "a", tenant="t1")
    await search.aindex_records_batch([("Film", 1, "b"), ("Film", 2, "c")], tenant="t2")
    assert await search.adelete_record("Film", 1, tenant="t2")
    assert await search.adelete_records([("Film", 1)], tenant="t2") == 0
    assert await search.afailures(tenant="t1") == []
    await records.ainsert("Task", [{"id": 1, "text": "to do it"}], tenant="t1")
    assert (await records.aget("Task", 1, tenant="t1")).tenant == "t1"


def test_coroutines_take_a_tenant(search: SearchEngine, engine: Engine) -> None:
    asyncio.run(writes_and_deletes(search))
    assert sorted(key for key, _ in stored(engine)) == [("t1", "Film", "1"), ("t1", "Task", "1"), ("t2", "Film", "2")]
