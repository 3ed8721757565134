"""What is written of a tenant is under that tenant, and moves with it in the same commit."""

import enum
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, delete, event, insert, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from kameleon import SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.errors import InvalidInput, InvalidRecord
from kameleon.orm.declaration import declared
from kameleon.testing import HashProvider, assert_indexed, assert_not_indexed

from .conftest import with_async, with_citus


class Base(DeclarativeBase):
    pass


class Plan(enum.Enum):
    FREE = "free"
    PAID = "paid"


class Org(Base):
    __tablename__ = "org"

    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str]


@searchable(fields={"title": 2, "body": 1}, tenant="org_id")
class Doc(Base):
    __tablename__ = "doc"

    id: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[int | None] = mapped_column(ForeignKey("org.id"))
    title: Mapped[str]
    body: Mapped[str] = mapped_column(default="plain")
    org: Mapped[Org | None] = relationship()


@searchable(fields=["text"], tenant=lambda file: file.org and file.org.region, depends_on=["org"])
class File(Base):
    __tablename__ = "file"

    id: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[int | None] = mapped_column(ForeignKey("org.id"))
    text: Mapped[str]
    org: Mapped[Org | None] = relationship()


@searchable(fields=["text"], tenant="owner", when=lambda note: note.is_shown, name="Memo")
class Note(Base):
    __tablename__ = "note"

    section: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[uuid.UUID | None]
    text: Mapped[str]
    is_shown: Mapped[bool] = mapped_column(default=True)


@searchable(fields=["text"], tenant="plan")
class Page(Base):
    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="page")
    plan: Mapped[Plan | None]
    text: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "page"}  # noqa: RUF012


class Guide(Page):
    __tablename__ = "guide"

    id: Mapped[int] = mapped_column(ForeignKey("page.id"), primary_key=True)
    level: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"polymorphic_identity": "guide"}  # noqa: RUF012


@searchable(fields=["text"], tenant="owner")
class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    text: Mapped[str]


class Part(Item):
    __tablename__ = "part"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(default="stock")
    text: Mapped[str]
    __mapper_args__ = {"concrete": True}  # noqa: RUF012


Maker = sessionmaker[Session]
Held = Callable[[], dict[tuple[str, str], tuple[str, str]]]


@pytest.fixture(params=with_async(*with_citus("sqlite", "postgresql")))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> Maker:
    Base.metadata.create_all(engine)
    made = search.attach(sessionmaker(engine))
    with made.begin() as session:
        session.add_all([Org(id=1, region="north"), Org(id=2, region="south")])
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
    """The id of a Doc of the first organisation."""
    with maker.begin() as session:
        session.add(Doc(id=1, org_id=1, title="Lamp"))
    assert held() == {("Doc", "1"): ("1", "Lamp\nplain")}
    return 1


OWNER = uuid.UUID("6f1c3e0a-8f0e-4f43-9f57-1b3fdf0ec3aa")


# declared


@pytest.mark.parametrize(
    ("obj", "key", "tenant"),
    [
        (lambda: Doc(id=7, org_id=2, title="a"), ("Doc", "7"), "2"),
        (lambda: Doc(id=7, org=Org(id=3, region="east"), title="a"), ("Doc", "7"), "3"),
        (lambda: Doc(id=7, title="a"), ("Doc", "7"), ""),
        (lambda: File(id=7, org_id=2, text="a"), ("File", "7"), "south"),
        (lambda: File(id=7, text="a"), ("File", "7"), ""),
        (lambda: Note(section="s", number=2, owner=OWNER, text="a"), ("Memo", '["s",2]'), str(OWNER)),
        (lambda: Page(id=7, plan=Plan.PAID, text="a"), ("Page", "7"), "paid"),
        (lambda: Guide(id=7, plan=Plan.FREE, text="a"), ("Page", "7"), "free"),
        (lambda: Item(id=7, owner="ann", text="a"), ("Item", "7"), "ann"),
        (lambda: Part(id=7, text="a"), ("Part", "7"), "stock"),
    ],
)
def test_a_new_record_is_its_tenants(
    maker: Maker, held: Held, obj: Callable[[], Any], key: tuple[str, str], tenant: str
) -> None:
    with maker.begin() as session:
        session.add(added := obj())
        session.flush()
    assert held()[key][0] == tenant
    with maker() as session:
        assert_indexed(session.merge(added, load=True))


@pytest.mark.parametrize(
    ("tenant", "message"),
    [
        ("organisation", "has no attribute 'organisation'"),
        ("org", "is a relationship: name the column that it goes by, tenant='org_id'"),
        (Org.__table__.c.region, "org.region is no column of Wrong"),
        (3, "tenant is an attribute's name, a column or a function of the object, not 3"),
    ],
)
def test_what_cannot_be_a_tenant_is_refused(search: SearchEngine, tenant: Any, message: str) -> None:
    class Wrong(Base):
        __tablename__ = "wrong"

        id: Mapped[int] = mapped_column(primary_key=True)
        org_id: Mapped[int] = mapped_column(ForeignKey("org.id"))
        title: Mapped[str]
        org: Mapped[Org] = relationship()

    try:
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
    @event.listens_for(Org, "load")
    def spoil(org: Org, _context: Any) -> None:
        org.__dict__["region"] = 1.5

    try:
        message = r"the tenant of File \(4,\): a tenant is text .*not float \(1.5\)"
        with pytest.raises(InvalidRecord, match=message), maker.begin() as session:
            session.add(File(id=4, org_id=1, text="a"))
    finally:
        event.remove(Org, "load", spoil)
    assert ("File", "4") not in held()


# moved


def by_object(session: Session) -> None:
    session.get_one(Doc, 1).org_id = 2


def by_relationship(session: Session) -> None:
    session.get_one(Doc, 1).org = session.get_one(Org, 2)


def by_bulk_update(session: Session) -> None:
    session.execute(update(Doc).where(Doc.title == "Lamp").values(org_id=2))


def by_primary_key(session: Session) -> None:
    session.execute(update(Doc), [{"id": 1, "org_id": 2}])


def by_expired_object(session: Session) -> None:
    found = session.get_one(Doc, 1)
    session.execute(text("UPDATE doc SET org_id = 2 WHERE id = 1"))
    session.expire(found)
    found.title = "Lamp "
    session.flush()
    found.title = "Lamp"


MOVES = [by_object, by_relationship, by_bulk_update, by_primary_key, by_expired_object]


@pytest.mark.parametrize("move", MOVES)
def test_a_record_moves_with_its_tenant_in_the_same_commit(
    maker: Maker, held: Held, doc: int, move: Callable[[Session], None], provider: HashProvider
) -> None:
    calls = len(provider.calls)
    with maker() as session:
        move(session)
        session.rollback()
    assert held() == {("Doc", "1"): ("1", "Lamp\nplain")}
    with maker() as session:
        with session.begin_nested() as inner:
            move(session)
            session.flush()
            inner.rollback()
        session.commit()
    assert held() == {("Doc", "1"): ("1", "Lamp\nplain")}
    with maker.begin() as session:
        move(session)
    assert held() == {("Doc", "1"): ("2", "Lamp\nplain")}
    if move is not by_expired_object:
        assert len(provider.calls) == calls, "the text is the same"


def test_a_record_moves_and_changes_or_goes(maker: Maker, held: Held, doc: int) -> None:
    with maker.begin() as session:
        found = session.get_one(Doc, 1)
        found.org_id, found.title = 2, "Desk"
    assert held() == {("Doc", "1"): ("2", "Desk\nplain")}
    with maker.begin() as session:
        session.get_one(Doc, 1).org_id = None
    assert held() == {("Doc", "1"): ("", "Desk\nplain")}
    with maker.begin() as session:
        found = session.get_one(Doc, 1)
        found.org_id = 1
        session.flush()
        session.delete(found)
    assert held() == {}


def test_records_of_many_tenants_are_deleted_at_once(maker: Maker, held: Held) -> None:
    with maker.begin() as session:
        session.execute(insert(Doc), [{"id": n, "org_id": 1 + n % 2, "title": f"t{n}"} for n in range(1, 8)])
    assert {tenant for tenant, _ in held().values()} == {"1", "2"}
    with maker.begin() as session:
        session.execute(delete(Doc).where(Doc.id < 6))
        session.delete(session.get_one(Doc, 6))
    assert held() == {("Doc", "7"): ("2", "t7\nplain")}


def test_a_related_object_moves_what_depends_on_it(maker: Maker, held: Held) -> None:
    with maker.begin() as session:
        session.add_all([File(id=1, org_id=1, text="a"), File(id=2, org_id=2, text="b")])
    with maker.begin() as session:
        session.get_one(Org, 1).region = "west"
    assert held() == {("File", "1"): ("west", "a"), ("File", "2"): ("south", "b")}
    with maker.begin() as session:
        session.execute(update(Org).where(Org.id == 2).values(region="west"))
    assert held() == {("File", "1"): ("west", "a"), ("File", "2"): ("west", "b")}


def test_classes_that_inherit_move_too(maker: Maker, held: Held) -> None:
    with maker.begin() as session:
        session.add_all([Guide(id=1, plan=Plan.FREE, text="a"), Part(id=1, owner="ann", text="b")])
        session.add(Item(id=1, owner="bob", text="c"))
    with maker.begin() as session:
        session.get_one(Page, 1).plan = Plan.PAID
        session.execute(update(Part).values(owner="eve"))
    assert held() == {("Page", "1"): ("paid", "a"), ("Part", "1"): ("eve", "b"), ("Item", "1"): ("bob", "c")}


def test_what_when_keeps_out_leaves_its_tenant(maker: Maker, held: Held) -> None:
    with maker.begin() as session:
        session.add(Note(section="s", number=1, owner=OWNER, text="a"))
    with maker.begin() as session:
        found = session.get_one(Note, ("s", 1))
        found.owner, found.is_shown = None, False
    assert held() == {}
    with maker() as session:
        assert_not_indexed(session.get_one(Note, ("s", 1)))
    with maker.begin() as session:
        session.get_one(Note, ("s", 1)).is_shown = True
    assert held() == {("Memo", '["s",1]'): ("", "a")}


def test_two_flushes_of_two_tenants_are_one_move(maker: Maker, held: Held, doc: int) -> None:
    with maker.begin() as session:
        found = session.get_one(Doc, 1)
        for org in (2, 1, 2):
            found.org_id = org
            session.flush()
            sessions_write(session)
    assert held() == {("Doc", "1"): ("2", "Lamp\nplain")}


def sessions_write(session: Session) -> None:
    """As `search.flush` does."""
    for sessions in session.kameleon:  # type: ignore[attr-defined]
        sessions.write(session)


# past the sessions


def test_raw_sql_moves_what_triggers_mark(
    search: SearchEngine, engine: Engine, maker: Maker, held: Held, doc: int
) -> None:
    search.track(Doc)
    with engine.begin() as connection:
        connection.execute(text("UPDATE doc SET org_id = 2"))
        connection.execute(text("INSERT INTO doc (id, org_id, title, body) VALUES (2, 1, 'Desk', 'b')"))
    search.sync()
    assert held() == {("Doc", "1"): ("2", "Lamp\nplain"), ("Doc", "2"): ("1", "Desk\nb")}
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM doc WHERE id = 1"))
    search.sync()
    assert held() == {("Doc", "2"): ("1", "Desk\nb")}
    search.untrack(Doc)


def test_the_doctor_finds_and_moves_a_record_of_another_tenant(
    search: SearchEngine, engine: Engine, held: Held, doc: int, provider: HashProvider
) -> None:
    calls = len(provider.calls)
    with engine.begin() as connection:
        connection.execute(text("UPDATE doc SET org_id = 2"))
    found = {each.check: each for each in examine(search) if each.entity == "Doc"}
    assert {check: (each.count, each.ids) for check, each in found.items()} == {
        "missing": (1, ("2/1",)),
        "orphaned": (1, ("1/1",)),
    }
    assert [each.check for each in examine(search, tenant=1) if each.entity == "Doc"] == ["orphaned"]
    assert [each.check for each in examine(search, tenant="2") if each.entity == "Doc"] == ["missing"]
    assert [each for each in examine(search, tenant="3") if each.entity == "Doc"] == []
    examine(search, fix=True)
    assert held() == {("Doc", "1"): ("2", "Lamp\nplain")}
    assert len(provider.calls) == calls


def test_a_class_that_got_tenants_later_is_unindexed_and_moves(
    search: SearchEngine, engine: Engine, maker: Maker, held: Held, doc: int
) -> None:
    with maker.begin() as session:
        session.add(Doc(id=2, title="of none"))
        session.add(File(id=1, org_id=1, text="made in Python"))
        session.add(Note(section="s", number=1, owner=OWNER, text="of an owner"))
    assert {each.entity: each.unindexed for each in search.get_status()} == {"Doc": 0, "File": 0, "Memo": 0}
    with engine.begin() as connection:
        for table in ("kdb_search", "kdb_queue"):
            connection.execute(text(f"UPDATE {table} SET tenant = '' WHERE entity_name IN ('Doc', 'Memo')"))
    assert {each.entity: each.unindexed for each in search.get_status()} == {"Doc": 1, "File": 0, "Memo": 1}
    assert {each.entity: each.unindexed for each in search.get_status(tenant=1)} == {"Doc": 1}
    assert [(each.entity, each.unindexed) for each in search.get_status(tenant="")] == [("Doc", 0), ("Memo", 0)]
    search.sync()
    assert {each.entity: each.unindexed for each in search.get_status()} == {"Doc": 0, "File": 0, "Memo": 0}
    assert {key: tenant for key, (tenant, _) in rows(engine).items()} == {
        ("Doc", "1"): "1",
        ("Doc", "2"): "",
        ("File", "1"): "north",
        ("Memo", '["s",1]'): str(OWNER),
    }


def rows(engine: Engine) -> dict[tuple[str, str], tuple[str, str]]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT tenant, entity_name, record_id, content FROM kdb_search")).all()
    return {(entity, id_): (tenant, content) for tenant, entity, id_, content in found}
