"""The assertions for applications' tests: they fail where the index is wrong, and report the difference."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from kameleon import SearchEngine
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider, assert_indexed, assert_not_indexed
from stress.workloads.models import Article, Author, Base, Note


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(search: SearchEngine) -> sessionmaker[Session]:
    Base.metadata.create_all(search.engine)
    return search.attach(sessionmaker(search.engine))


@pytest.fixture
def session(maker: sessionmaker[Session]) -> Iterator[Session]:
    with maker() as opened:
        yield opened


def commit(session: Session, obj: Any) -> Any:
    session.add(obj)
    session.commit()
    return obj


def test_what_is_committed_is_indexed(session: Session) -> None:
    note = commit(session, Note(title="red fox"))
    assert_indexed(note)
    with pytest.raises(AssertionError, match=r"Note 1 is in the index.*'red fox\\nempty'"):
        assert_not_indexed(note)


def test_what_is_only_flushed_is_not(session: Session) -> None:
    note = Note(title="red fox", body="")
    session.add(note)
    assert_not_indexed(note)
    with pytest.raises(AssertionError, match="no primary key yet"):
        assert_indexed(note)
    session.flush()
    with pytest.raises(AssertionError, match=r"Note 1 is not in the index \(its session has not committed yet\)"):
        assert_indexed(note)
    session.rollback()


def test_a_change_that_is_not_committed_is_compared_with_the_index(session: Session) -> None:
    note = commit(session, Note(title="red fox", body=""))
    note.title = "blue whale"
    with pytest.raises(AssertionError, match="has the content 'blue whale', and the index holds 'red fox'"):
        assert_indexed(note)
    session.rollback()
    assert_indexed(note)


def test_a_deleted_object_is_checked_with_its_engine(session: Session, search: SearchEngine) -> None:
    note = commit(session, Note(title="red fox"))
    session.delete(note)
    session.commit()
    assert_not_indexed(note, search)
    with pytest.raises(InvalidInput, match=r"assert_indexed\(obj, search\)"):
        assert_not_indexed(note)


def test_what_its_condition_keeps_out_is_named_so(session: Session) -> None:
    article = commit(session, Article(title="red fox", status="hidden"))
    assert_not_indexed(article)
    with pytest.raises(AssertionError, match="kept out of the index by its `when`"):
        assert_indexed(article)


def test_an_embedding_that_is_missing_or_refused_is_named(search: SearchEngine, provider: HashProvider) -> None:
    Base.metadata.create_all(search.engine)
    maker = search.attach(sessionmaker(search.engine), indexing="deferred")
    provider.refuse = lambda text: ValueError("too red") if "red" in text else None
    with maker() as session:
        fox, whale = commit(session, Note(title="red fox")), commit(session, Note(title="blue whale"))
        with pytest.raises(AssertionError, match=r"embedding of Note 2 is pending"):
            assert_indexed(whale)
        session.rollback()
        search.sync()
        assert_indexed(whale)
        with pytest.raises(AssertionError, match=r"refused Note 1 .*too red"):
            assert_indexed(fox)


def test_a_class_that_is_not_searchable_is_refused(session: Session) -> None:
    with pytest.raises(InvalidInput, match="'Author' is not searchable"):
        assert_indexed(commit(session, Author(name="Hamsun")))


def test_an_engine_without_a_provider_has_no_embeddings_to_be_missed(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with SearchEngine(engine).attach(sessionmaker(engine))() as session:
        assert_indexed(commit(session, Note(title="red fox")))


@pytest.mark.parametrize("mode", ["create_savepoint", "conditional_savepoint", "rollback_only"])
def test_a_test_that_rolls_everything_back_sees_its_own_transaction(
    search: SearchEngine, maker: sessionmaker[Session], mode: Any
) -> None:
    with search.engine.connect() as connection, connection.begin() as outer:
        with maker(bind=connection, join_transaction_mode=mode) as session:
            note = commit(session, Note(title="red fox"))
            assert_indexed(note)
        outer.rollback()
    with maker() as session:
        assert_not_indexed(Note(id=1, title="red fox", body="empty"), search)
