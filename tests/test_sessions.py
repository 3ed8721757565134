"""Every way a session's transaction can end: what it commits is searchable, what it rolls back is not."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any, Literal

import pytest
from sqlalchemy import Delete, Engine, Update, create_engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from kameleon import IndexReport, RecordStore, SearchEngine
from kameleon.doctor import examine
from kameleon.embeddings import EmbeddingProvider
from kameleon.errors import InvalidInput, InvalidRecord, ProviderUnavailable
from kameleon.testing import HashProvider
from stress.workloads.models import (
    Article,
    Author,
    Base,
    Bird,
    Book,
    Cat,
    Comment,
    Dog,
    Note,
    Place,
    Price,
    Reply,
    Shelf,
    Tag,
    assert_index_matches,
    index,
)

from .conftest import Make, ids, with_async, with_citus

JoinMode = Literal["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]
JOIN_MODES: list[JoinMode] = ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]

Maker = sessionmaker[Session]


@pytest.fixture(params=with_async(*with_citus("sqlite", "sqlite-memory", "postgresql")))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> Maker:
    Base.metadata.create_all(engine)
    return search.attach(sessionmaker(engine))


@pytest.fixture
def contents(engine: Engine, search: SearchEngine, maker: Maker) -> Iterator[Callable[[], list[str]]]:
    """The contents of the index, checked against the tables; they are checked again at the end of the test."""

    def check() -> list[str]:
        return sorted(assert_index_matches(engine, search).values())

    yield check
    check()


Contents = Callable[[], list[str]]


def note(title: str) -> Note:
    return Note(title=title, body="b")


# one transaction


def test_what_is_committed_is_found(
    maker: Maker, search: SearchEngine, provider: HashProvider, contents: Contents
) -> None:
    with maker.begin() as session:
        session.add_all([note("red fox"), note("blue whale")])
    assert contents() == ["blue whale\nb", "red fox\nb"]
    assert provider.calls == [["red fox\nb", "blue whale\nb"]]
    assert ids(search.search("fox", entity=Note, mode="keyword")) == ["1"]


def test_rollback_leaves_no_rows(maker: Maker, provider: HashProvider, contents: Contents) -> None:
    with maker() as session:
        session.add(note("gone"))
        session.flush()
        session.rollback()
        session.add(note("kept"))
        session.commit()
    assert contents() == ["kept\nb"]
    assert provider.calls == [["kept\nb"]]


def test_an_exception_in_the_block_leaves_nothing(maker: Maker, contents: Contents) -> None:
    def fail() -> None:
        with maker.begin() as session:
            session.add(note("gone"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert contents() == []


def test_closing_without_commit_forgets_what_was_flushed(maker: Maker, contents: Contents) -> None:
    session = maker()
    session.add(note("gone"))
    session.flush()
    session.close()
    session.add(note("kept"))
    session.commit()
    session.close()
    assert contents() == ["kept\nb"]


def test_several_commits_of_a_session_each_write_their_own(
    maker: Maker, provider: HashProvider, contents: Contents
) -> None:
    with maker() as session:
        for title in ("one", "two", "three"):
            session.add(note(title))
            session.commit()
    assert contents() == ["one\nb", "three\nb", "two\nb"]
    assert provider.calls == [["one\nb"], ["two\nb"], ["three\nb"]]


def test_edits_and_deletes_are_followed(maker: Maker, provider: HashProvider, contents: Contents) -> None:
    with maker.begin() as session:
        session.add_all([note("one"), note("two")])
    with maker.begin() as session:
        one, two = session.query(Note).order_by(Note.id)
        one.title = "new"
        session.delete(two)
    assert contents() == ["new\nb"]
    assert provider.calls[1:] == [["new\nb"]]


def test_what_is_flushed_many_times_is_embedded_once(maker: Maker, provider: HashProvider, contents: Contents) -> None:
    with maker.begin() as session:
        one = note("first")
        session.add(one)
        session.flush()
        one.title = "second"
        session.flush()
        one.title = "last"
        session.add(note("other"))
    assert provider.calls == [["last\nb", "other\nb"]] or provider.calls == [["other\nb", "last\nb"]]
    assert contents() == ["last\nb", "other\nb"]


def test_setting_the_same_value_costs_nothing(maker: Maker, provider: HashProvider, engine: Engine) -> None:
    with maker.begin() as session:
        session.add_all([note("same"), Article(title="article")])
    with maker() as session:
        one, article = session.query(Note).one(), session.query(Article).one()
        statements: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        one.title, article.title = "same", "article"
        session.commit()
        assert statements == []
        one.stars = 5
        session.commit()
    assert len(provider.calls) == 1
    assert not [statement for statement in statements if "kdb_" in statement]


def test_a_column_that_no_text_is_made_of_costs_no_provider_call(maker: Maker, provider: HashProvider) -> None:
    with maker.begin() as session:
        session.add(Article(title="article"))
    with maker.begin() as session:
        session.query(Article).one().status = "closed"
    assert len(provider.calls) == 1


def test_when_keeps_a_record_out_and_lets_it_in(maker: Maker, provider: HashProvider, contents: Contents) -> None:
    with maker.begin() as session:
        session.add(Article(title="secret", status="hidden"))
    assert (contents(), provider.calls) == ([], [])
    for status, expected in (("open", ["secret"]), ("hidden", [])):
        with maker.begin() as session:
            session.query(Article).one().status = status
        assert contents() == expected


@pytest.mark.parametrize("expires", [True, False])
def test_objects_live_on_whether_commits_expire_them_or_not(
    search: SearchEngine, engine: Engine, maker: Maker, expires: bool, contents: Contents
) -> None:
    with maker(expire_on_commit=expires) as session:
        one = note("one")
        session.add(one)
        session.commit()
        one.title = "two"
        session.commit()
    assert contents() == ["two\nb"]


def test_detached_and_merged_objects_are_indexed_as_merged(
    maker: Maker, contents: Contents, provider: HashProvider
) -> None:
    with maker(expire_on_commit=False) as session:
        one = note("one")
        session.add(one)
        session.commit()
    one.title = "while detached"
    with maker.begin() as session:
        session.merge(one)
    assert contents() == ["while detached\nb"]
    with maker.begin() as session:
        session.merge(one)
    assert len(provider.calls) == 2


def test_text_that_the_server_fills_in_is_read_back(maker: Maker, provider: HashProvider, contents: Contents) -> None:
    with maker.begin() as session:
        session.add_all([Note(title="one"), Note(title="two")])
    assert contents() == ["one\nempty", "two\nempty"]
    assert len(provider.calls) == 1


def test_what_another_session_changed_of_the_row_is_indexed_too(maker: Maker, contents: Contents) -> None:
    with maker(expire_on_commit=False) as session:
        one = note("first")
        session.add(one)
        session.commit()
        with maker.begin() as other:
            other.query(Note).one().body = "changed by another"
        one.title = "second"
        session.commit()
    assert contents() == ["second\nchanged by another"]


def test_an_assigned_expression_is_read_back(maker: Maker, contents: Contents) -> None:
    with maker.begin() as session:
        session.add(note("one"))
    with maker.begin() as session:
        session.query(Note).one().title = Note.title + "!"
    assert contents() == ["one!\nb"]


def test_every_kind_of_key_has_its_text(maker: Maker, engine: Engine, contents: Contents) -> None:
    with maker.begin() as session:
        session.add_all([Place(country='n"ø\\', number=-7, name="Oslo"), Comment(text="uuid"), note("integer")])
    keys = dict(index(engine).keys())
    assert keys["Place"] == '["n\\"ø\\\\",-7]'
    assert len(keys["Remark"].split("-")) == 5
    assert keys["Note"] == "1"


def test_a_changed_key_takes_its_entry_along(maker: Maker, engine: Engine, contents: Contents) -> None:
    with maker.begin() as session:
        session.add(Place(country="no", number=1, name="Oslo"))
    with maker.begin() as session:
        session.query(Place).one().number = 2
    assert list(index(engine)) == [("Place", '["no",2]')]


def test_inherited_classes_are_of_the_entity_that_declares_them(
    maker: Maker, engine: Engine, contents: Contents
) -> None:
    with maker.begin() as session:
        session.add_all([Dog(name="Rex", trick="roll"), Cat(name="Tom", purr="loud"), Bird(name="Ada")])
    assert sorted((entity, content) for (entity, _), content in index(engine).items()) == [
        ("Animal", "Rex"),
        ("Bird", "Ada"),
        ("Cat", "Tom\nloud"),
    ]


def test_a_related_text_is_followed_wherever_it_changes(maker: Maker, contents: Contents) -> None:
    with maker.begin() as session:
        author, tag = Author(name="Ann"), Tag(label="red")
        session.add(Article(title="one", author=author, tags=[tag]))
    with maker.begin() as session:
        session.query(Author).one().name = "Bob"
        session.query(Tag).one().label = "blue"
    assert contents() == ["one by Bob #blue"]
    with maker.begin() as session:
        session.add(Reply(article_id=session.query(Article).one().id, text="agreed"))
    assert contents() == ["one by Bob #blue\nagreed"]
    with maker.begin() as session:
        session.delete(session.query(Reply).one())
        article = session.query(Article).one()
        article.tags.clear()
    assert contents() == ["one by Bob"]


def test_a_new_object_linked_by_its_key_alone_renders_what_it_depends_on(maker: Maker, contents: Contents) -> None:
    with maker.begin() as session:
        session.add(Author(id=1, name="Ann"))
    with maker.begin() as session:
        session.add(Article(title="one", author_id=1))
    assert contents() == ["one by Ann"]


def test_a_dependency_that_another_session_changed_since_it_was_loaded_is_read_anew(
    maker: Maker, contents: Contents
) -> None:
    with maker(expire_on_commit=False) as session:
        author = Author(name="Ann")
        session.add(author)
        session.commit()
        with maker.begin() as other:
            other.query(Author).one().name = "Bob"
        session.add(Article(title="one", author=author))
        session.commit()
    assert contents() == ["one by Bob"]


def test_keys_that_move_along_lose_no_record(maker: Maker, contents: Contents) -> None:
    with maker.begin() as session:
        session.add_all([Place(country="no", number=n, name=f"place {n}") for n in range(2, 12)])
    with maker.begin() as session:
        for place in session.query(Place).order_by(Place.number):
            place.number -= 1
    assert len(contents()) == 10


def test_orphans_of_the_orm_leave_the_index(maker: Maker, engine: Engine) -> None:
    with maker.begin() as session:
        session.add(Shelf(books=[Book(title="kept"), Book(title="gone")]))
    with maker.begin() as session:
        shelf = session.query(Shelf).one()
        shelf.books.pop()
    assert [content for (entity, _), content in index(engine).items() if entity == "Book"] == ["kept by nobody"]
    with maker.begin() as session:
        session.query(Book).one().author = "Ann"
    assert [content for (entity, _), content in index(engine).items() if entity == "Book"] == ["kept by Ann"]
    with maker.begin() as session:
        session.delete(session.query(Shelf).one())
    assert index(engine) == {}


def test_values_are_rendered_as_the_database_has_them(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker.begin() as session:
        session.add(Price(amount=Decimal("1.239"), data={1: "one", "x": "two"}))
    assert list(index(engine).values()) == ["1.24\none, two"]
    assert [finding.check for finding in examine(search) if finding.severity == "error"] == []


def test_nothing_is_flushed_before_the_provider_was_called(
    maker: Maker, engine: Engine, provider: HashProvider, contents: Contents
) -> None:
    """Although an article's content has to be loaded, and loading flushes."""
    with maker.begin() as session:
        session.add(Article(title="one", author=Author(name="Ann"), tags=[Tag(label="red")]))
    order: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: order.append(args[2].split()[0]))
    search_with = provider.embed_batch
    provider.embed_batch = lambda texts: order.append("EMBED") or search_with(texts)  # type: ignore[method-assign, func-returns-value]
    with maker.begin() as session:
        session.query(Article).one().title = "two"
    assert order.index("EMBED") < order.index("UPDATE")


def test_a_content_that_cannot_be_rendered_yet_is_rendered_after_the_flush(
    search: SearchEngine, maker: Maker, engine: Engine, provider: HashProvider
) -> None:
    with maker.begin() as session:
        session.add(Shelf(books=[Book(title="one")]))
    assert list(index(engine).values()) == ["one by nobody"]
    with maker() as session:
        session.add(Shelf(books=[Book(title="two", author="")]))
        session.flush()
        session.execute(text("UPDATE shelf_book SET author = NULL"))
        with pytest.raises(InvalidRecord, match=r"Book .* could not be made: AttributeError"):
            session.commit()


# savepoints


def test_savepoints_keep_and_forget_two_deep(maker: Maker, provider: HashProvider, contents: Contents) -> None:
    with maker.begin() as session:
        session.add(note("root"))
        with session.begin_nested():
            session.add(note("outer"))
            inner = session.begin_nested()
            session.add(note("inner"))
            session.flush()
            inner.rollback()
        outer = session.begin_nested()
        with session.begin_nested():
            session.add(note("released, then gone"))
        outer.rollback()
    assert contents() == ["outer\nb", "root\nb"]
    assert [sorted(call) for call in provider.calls] == [["outer\nb", "root\nb"]]


def test_an_edit_inside_a_savepoint_that_is_rolled_back_is_undone(maker: Maker, contents: Contents) -> None:
    with maker.begin() as session:
        one = note("first")
        session.add(one)
        session.flush()
        savepoint = session.begin_nested()
        one.title = "second"
        session.flush()
        savepoint.rollback()
    assert contents() == ["first\nb"]


def test_a_failing_flush_inside_a_savepoint_costs_its_own_alone(maker: Maker, contents: Contents) -> None:
    with maker.begin() as session:
        session.add(note("kept"))
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add_all([note("gone"), Place(country="no", number=1, name=None)])
        session.add(note("after"))
    assert contents() == ["after\nb", "kept\nb"]


def test_a_commit_with_an_open_savepoint_commits_both(maker: Maker, contents: Contents) -> None:
    with maker() as session:
        session.add(note("root"))
        session.begin_nested()
        session.add(note("inner"))
        session.commit()
    assert contents() == ["inner\nb", "root\nb"]


# joined to an outer transaction


@pytest.mark.parametrize("mode", JOIN_MODES)
def test_a_joined_session_is_indexed_in_the_outer_transaction(
    maker: Maker, engine: Engine, search: SearchEngine, mode: JoinMode, contents: Contents
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with maker(bind=connection, join_transaction_mode=mode) as session:
            session.add(note("first"))
            session.commit()
            session.add(note("second"))
            session.commit()
            found = search.search("first", mode="keyword", connection=connection)
            assert [hit.matched_text for hit in found] == ["first\nb"]
        if outer.is_active:
            outer.commit()
    assert contents() == ["first\nb", "second\nb"]


@pytest.mark.parametrize("mode", JOIN_MODES)
def test_what_the_outer_transaction_rolls_back_was_never_indexed(
    maker: Maker, engine: Engine, mode: JoinMode, contents: Contents
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with maker(bind=connection, join_transaction_mode=mode) as session:
            session.add(note("gone"))
            session.flush()
        if outer.is_active:
            outer.rollback()
    assert contents() == []


@pytest.mark.parametrize("mode", JOIN_MODES)
@pytest.mark.parametrize("closes", [True, False])
def test_what_a_session_only_flushed_is_indexed_when_the_outer_transaction_commits_it(
    maker: Maker, engine: Engine, mode: JoinMode, closes: bool, contents: Contents
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        session = maker(bind=connection, join_transaction_mode=mode)
        session.add(note("flushed"))
        session.flush()
        if closes:
            session.close()
        if outer.is_active:
            outer.commit()
        session.close()
    assert contents() in ([], ["flushed\nb"])


def test_the_rollback_of_an_outer_savepoint_undoes_what_was_written_inside_it(
    maker: Maker, engine: Engine, contents: Contents
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        session = maker(bind=connection, join_transaction_mode="rollback_only")
        session.add(note("before"))
        session.flush()
        savepoint = connection.begin_nested()
        session.add(note("inside"))
        session.commit()
        savepoint.rollback()
        session.add(note("after"))
        session.commit()
        outer.commit()
        session.close()
    assert contents() == ["after\nb", "before\nb"]


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_two_phase_commit_holds_data_and_index(maker: Maker, contents: Contents, keeps: bool) -> None:
    with maker(twophase=True) as session:
        session.add(note("in two phases"))
        session.prepare()
        if keeps:
            session.commit()
        else:
            session.rollback()
    assert contents() == (["in two phases\nb"] if keeps else [])


# other listeners


def test_what_a_later_listener_adds_is_indexed_in_the_same_commit(
    maker: Maker, provider: HashProvider, contents: Contents
) -> None:
    def add(session: Session) -> None:
        if not session.info.setdefault("added", False):
            session.info["added"] = True
            session.add(note("added late"))

    event.listen(maker, "before_commit", add)
    with maker.begin() as session:
        session.add(note("first"))
    assert contents() == ["added late\nb", "first\nb"]
    assert provider.calls == [["first\nb"], ["added late\nb"]]


def test_what_a_listener_changes_at_the_flush_is_what_is_indexed(maker: Maker, contents: Contents) -> None:
    def shout(session: Session, *_: Any) -> None:
        for obj in [*session.new, *session.dirty]:
            obj.title = obj.title.upper()

    event.listen(maker, "before_flush", shout)
    with maker.begin() as session:
        session.add(note("quiet"))
    assert contents() == ["QUIET\nb"]


def test_a_factory_that_was_not_attached_is_left_alone(
    maker: Maker, engine: Engine, search: SearchEngine, provider: HashProvider
) -> None:
    with sessionmaker(engine).begin() as session:
        session.add(note("unheard"))
    with Session(engine) as plain:
        plain.add(note("unheard"))
        plain.commit()
    assert (index(engine), provider.calls) == ({}, [])


@pytest.mark.parametrize("backend", ["sqlite-plain"], indirect=True)
def test_savepoints_that_do_not_hold_are_logged_once_and_noted_in_the_status(
    maker: Maker, search: SearchEngine, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with maker.begin() as session:
            session.add(note("one"))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert re.search(r"a savepoint before that commits.*kameleon\.create_engine", warned[0])
    assert warned[0] in search.get_status()[0].note


def test_attaching_twice_indexes_once(
    maker: Maker, search: SearchEngine, provider: HashProvider, contents: Contents
) -> None:
    assert search.attach(maker) is maker
    with maker.begin() as session:
        session.add(note("one"))
    assert provider.calls == [["one\nb"]]


def test_attach_names_the_types_it_takes(search: SearchEngine, engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(InvalidInput, match="attach takes a sessionmaker"):
        search.attach(session)


def test_a_session_class_is_attached_as_one_derived_from_it(search: SearchEngine, engine: Engine, maker: Maker) -> None:
    attached = search.attach(Session)
    assert issubclass(attached, Session)
    assert attached is not Session
    with attached(engine) as session:
        session.add(note("one"))
        session.commit()
    assert list(index(engine).values()) == ["one\nb"]


# by hand


def test_records_given_by_hand_join_the_sessions_queue(
    maker: Maker, search: SearchEngine, provider: HashProvider, engine: Engine
) -> None:
    search.index_record("Page", "2", "to be dropped")
    with maker.begin() as session:
        session.add(note("mapped"))
        search.index_record("Page", "1", "first", session=session)
        search.index_record("Page", "1", "last word", session=session)
        search.delete_record("Page", "2", session=session)
    assert index(engine) == {("Note", "1"): "mapped\nb", ("Page", "1"): "last word"}
    assert [sorted(call) for call in provider.calls[1:]] == [["last word", "mapped\nb"]]
    with maker() as session:
        search.index_record("Page", "3", "never", session=session)
        search.delete_record("Page", "1", session=session)
        session.rollback()
    assert ("Page", "3") not in index(engine)
    assert ("Page", "1") in index(engine)


def test_a_session_that_is_not_attached_gives_its_transaction(
    search: SearchEngine, provider: HashProvider, engine: Engine
) -> None:
    store = RecordStore(search)
    sessions: list[Any] = [Session(engine), scoped_session(sessionmaker(engine))]
    for session in sessions:
        assert search.index_records_batch([("Page", "1", "red fox")], session=session).embedded == 1
        assert ids(search.search("fox", session=session)) == ["1"]
        assert ids(search.similar("Page", "1", session=session)) == []
        assert search.suggest("fo", session=session) == ["fox"]
        assert search.admin.state("Page", "1", session=session) is not None
        assert search.failures(session=session) == []
        assert search.delete_records([("Page", "1")], session=session) == 1
        assert store.insert("Ticket", [{"id": "1", "title": "late wages"}], session=session).inserted == 1
        assert store.get("Ticket", "1", session=session).data == {"title": "late wages"}
        assert store.entity("Ticket", session=session).name == "Ticket"
        session.rollback()
        session.close()
    assert index(engine) == {}
    assert store.entities() == []


def test_records_of_a_batch_join_the_sessions_queue(maker: Maker, search: SearchEngine, engine: Engine) -> None:
    search.index_record("Page", "9", "to be dropped")
    with maker.begin() as session:
        report = search.index_records_batch([("Page", "1", "first"), ("Page", "2", "second")], session=session)
        assert report == IndexReport()
        assert search.delete_records([("Page", "9")], session=session) == 1
    assert index(engine) == {("Page", "1"): "first", ("Page", "2"): "second"}


def test_what_is_no_session_is_refused(search: SearchEngine, engine: Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(InvalidInput, match="session= is a SQLAlchemy Session, not"):
            search.search("fox", session=connection)  # type: ignore[arg-type]
        with Session(engine) as session, pytest.raises(InvalidInput, match="give one of them"):
            search.search("fox", session=session, connection=connection)


# the connection's own commit


def test_a_commit_that_the_index_stops_leaves_nothing_behind(make: Make, engine: Engine) -> None:
    provider = Down()
    Base.metadata.create_all(engine)
    maker = make(provider, on_provider_error="raise").attach(sessionmaker(engine))
    with engine.connect() as connection:
        session = maker(bind=connection, join_transaction_mode="rollback_only")
        session.add(note("gone"))
        session.flush()
        with pytest.raises(ProviderUnavailable):
            connection.commit()
        session.close()
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM note")) == 0


def test_an_outer_commit_keeps_to_the_sessions_own_indexing(
    maker: Maker, engine: Engine, provider: HashProvider
) -> None:
    with engine.begin() as connection:
        session = maker(bind=connection, info={"kameleon_indexing": "deferred"})
        session.add(note("later"))
        session.flush()
    session.close()
    assert (list(index(engine).values()), provider.calls) == (["later\nb"], [])


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_an_outer_two_phase_commit_without_prepare_is_indexed(maker: Maker, engine: Engine, contents: Contents) -> None:
    with engine.connect() as connection:
        outer = connection.begin_twophase()
        session = maker(bind=connection, join_transaction_mode="rollback_only")
        session.add(note("one"))
        session.flush()
        outer.commit()
        session.close()
    assert contents() == ["one\nb"]


def test_a_session_that_reads_elsewhere_is_searched_where_it_writes(
    search: SearchEngine, engine: Engine, contents: Contents, maker: Maker
) -> None:
    replica = create_engine("sqlite://")

    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **_: Any) -> Engine:
            return engine if self._flushing or isinstance(clause, Update | Delete) else replica

    with search.attach(Routing)() as session:
        session.add(note("one"))
        session.commit()
    replica.dispose()
    assert contents() == ["one\nb"]


# two at once


def at_once(*work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result(60)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_two_that_change_what_a_record_depends_on_both_find_themselves_in_it(maker: Maker, contents: Contents) -> None:
    with maker.begin() as session:
        session.add(Article(title="one", tags=[Tag(id=1, label="x"), Tag(id=2, label="y")]))
    both = Barrier(2)

    def rename(tag: int) -> None:
        with maker() as session:
            session.get_one(Tag, tag).label = f"new{tag}"
            session.flush()
            both.wait(30)
            session.commit()

    at_once(lambda: rename(1), lambda: rename(2))
    assert contents() == ["one #new1 #new2"]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_new_record_and_a_change_of_what_it_depends_on_meet(maker: Maker, contents: Contents) -> None:
    with maker.begin() as session:
        session.add(Author(id=1, name="Ann"))
    both = Barrier(2)

    def write() -> None:
        with maker() as session:
            session.add(Article(title="one", author_id=1))
            session.flush()
            both.wait(30)
            session.commit()

    def rename() -> None:
        with maker() as session:
            session.get_one(Author, 1).name = "Bob"
            session.flush()
            both.wait(30)
            session.commit()

    at_once(write, rename)
    assert contents() == ["one by Bob"]


# the provider


class Down(HashProvider):
    attempts = 1

    def embed_batch(self, texts: Sequence[str]) -> Any:
        super().embed_batch(texts)
        raise ProviderUnavailable("the provider is down")


@pytest.fixture
def down(make: Make, engine: Engine) -> Callable[..., tuple[SearchEngine, Maker]]:
    def build(**options: Any) -> tuple[SearchEngine, Maker]:
        Base.metadata.create_all(engine)
        search = make(Down(model_name="hash"), **options)
        return search, search.attach(sessionmaker(engine))

    return build


def test_a_commit_while_the_provider_is_down_is_found_by_keyword(
    down: Callable[..., tuple[SearchEngine, Maker]], make: Make, engine: Engine
) -> None:
    search, maker = down()
    with maker.begin() as session:
        session.add(note("red fox"))
    assert [(status.indexed, status.pending) for status in search.get_status()] == [(1, 1)]
    assert [hit.matched_text for hit in search.search("fox", mode="keyword")] == ["red fox\nb"]
    healthy = make(HashProvider())
    assert healthy.sync().embedded == 1
    assert_index_matches(engine, healthy)


def test_with_raise_a_commit_while_the_provider_is_down_stores_nothing(
    down: Callable[..., tuple[SearchEngine, Maker]], engine: Engine
) -> None:
    _search, maker = down(on_provider_error="raise")
    with maker() as session:
        session.add(note("red fox"))
        with pytest.raises(ProviderUnavailable, match="nothing was stored"):
            session.commit()
        session.rollback()
        assert session.query(Note).all() == []
    assert index(engine) == {}


def test_a_refused_text_costs_its_neighbours_nothing(make: Make, engine: Engine) -> None:
    provider = HashProvider(refuse=lambda text: ValueError("poison") if "poison" in text else None)
    search = make(provider)
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all([note("good"), note("poison"), note("fine")])
    assert [(status.indexed, status.pending, status.failed) for status in search.get_status()] == [(3, 0, 1)]
    assert len(provider.calls) == 1


def test_text_that_no_database_can_store_is_named(maker: Maker, contents: Contents) -> None:
    with maker() as session:
        session.add(Note(id=7, title="broken \ud800", body="b"))
        with pytest.raises(InvalidRecord, match=r"Note.*lone surrogate"):
            session.commit()
    assert contents() == []


WRITE = """
import sys
from sqlalchemy import create_engine, text
engine = create_engine(sys.argv[1], connect_args=eval(sys.argv[2]))
with engine.begin() as connection:
    connection.execute(text(sys.argv[3]))
"""


class Interrupted(HashProvider):
    """While it embeds, another process commits; that would time out if a lock were held."""

    def __init__(self, url: str, options: dict[str, Any], statement: str) -> None:
        super().__init__()
        self.process = [sys.executable, "-c", WRITE, url, repr(options), statement]

    def embed_batch(self, texts: Sequence[str]) -> Any:
        subprocess.run(self.process, check=True, timeout=60)
        return super().embed_batch(texts)


INSERT = "INSERT INTO author (name) VALUES ('another process')"


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
def test_no_lock_is_held_while_the_provider_works(make: Make, engine: Engine, backend: str) -> None:
    """On PostgreSQL the other process writes the very rows that the session is about to write."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO note (id, title, body, stars) VALUES (1, 'first', 'b', 0)"))
    is_sqlite = backend == "sqlite"
    statement = INSERT if is_sqlite else "UPDATE note SET stars = 7 WHERE id = 1"
    limits = {"timeout": 1} if is_sqlite else {"options": f"-c search_path={_schema(engine)} -c lock_timeout=1s"}
    url = engine.url.set(query={k: v for k, v in engine.url.query.items() if k != "options"})
    provider = Interrupted(url.render_as_string(hide_password=False), limits, statement)
    maker = make(provider).attach(sessionmaker(engine))
    with maker() as session:
        edited = session.get_one(Note, 1) if not is_sqlite else note("new")
        edited.title = "second"
        session.add(edited)
        session.commit()
        assert "second\nb" in index(engine).values()
        if is_sqlite:
            assert session.query(Author).count() == 1
        else:
            assert (edited.title, edited.stars) == ("second", 7)


def _schema(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.scalar(text("SELECT current_schema()")))


def test_a_provider_without_batches_is_called_text_by_text(make: Make, engine: Engine) -> None:
    class Single(EmbeddingProvider):
        model_name, dimensions = "single", 2

        def embed(self, text: str) -> list[float]:
            return [len(text), 1.0]

    search = make(Single())
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all([note("one"), note("two")])
    assert_index_matches(engine, search)
