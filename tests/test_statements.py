"""Statements that write many rows: the index follows them, and their results do not change."""

from typing import Any

import pytest
from sqlalchemy import Engine, bindparam, delete, exists, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased, sessionmaker

from kameleon import SearchEngine
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider
from stress.workloads.models import Animal, Article, Author, Base, Cat, Dog, Note, Place, Tag, assert_index_matches

from .conftest import with_async, with_citus

Maker = sessionmaker[Session]


@pytest.fixture(params=with_async(*with_citus("sqlite", "postgresql")))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> Maker:
    Base.metadata.create_all(engine)
    maker = search.attach(sessionmaker(engine))
    with maker.begin() as session:
        session.add_all([Note(title=title, body="b") for title in ("one", "two", "three")])
    return maker


def commit(maker: Maker, engine: Engine, search: SearchEngine, *statements: Any) -> list[str]:
    with maker.begin() as session:
        for statement in statements:
            session.execute(statement)
    return sorted(assert_index_matches(engine, search).values())


def on_conflict(engine: Engine) -> Any:
    return (sqlite if engine.dialect.name == "sqlite" else postgresql).insert(Note)


def test_updates_and_deletes_by_condition(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    found = commit(
        maker,
        engine,
        search,
        update(Note).where(Note.title == "one").values(title="new"),
        delete(Note).where(Note.title.in_(["two", "nothing"])),
        update(Note).where(Note.stars == 99).values(title="never"),
    )
    assert found == ["new\nb", "three\nb"]


def test_a_delete_of_all_rows(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    assert commit(maker, engine, search, delete(Note)) == []


def test_conditions_over_other_tables(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker.begin() as session:
        session.add_all([Author(name="one"), Tag(label="three")])
    other = aliased(Note)
    found = commit(
        maker,
        engine,
        search,
        update(Note).where(Note.title == Author.name).values(body=Author.name),
        delete(Note).where(exists().where(Tag.label == Note.title)),
        update(Note).where(Note.id == select(other.id).where(other.title == "two").scalar_subquery()).values(body="x"),
    )
    assert found == ["one\none", "two\nx"]


def test_the_legacy_query(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker.begin() as session:
        assert session.query(Note).filter(Note.title == "one").update({"title": "new"}) == 1
        assert session.query(Note).filter_by(title="two").delete(synchronize_session=False) == 1
    assert sorted(assert_index_matches(engine, search).values()) == ["new\nb", "three\nb"]


def test_updates_by_primary_key(maker: Maker, engine: Engine, search: SearchEngine, provider: HashProvider) -> None:
    with maker.begin() as session:
        session.execute(update(Note), [{"id": 1, "title": "first"}, {"id": 3, "title": "third"}])
    assert sorted(assert_index_matches(engine, search).values()) == ["first\nb", "third\nb", "two\nb"]
    assert [sorted(call) for call in provider.calls[1:]] == [["first\nb", "third\nb"]]


def test_parameters_of_a_condition(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker.begin() as session:
        session.execute(update(Note).where(Note.title == bindparam("old")).values(title="new"), {"old": "one"})
        session.execute(delete(Note).where(Note.title == bindparam("old")), {"old": "two"})
    assert sorted(assert_index_matches(engine, search).values()) == ["new\nb", "three\nb"]


def test_inserts_of_every_form(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker.begin() as session:
        session.execute(insert(Note), [{"title": "list"}, {"title": "of two"}])
        session.execute(insert(Note), {"title": "dict"})
        session.execute(insert(Note).values(title="values"))
        session.execute(insert(Note).values([{"title": "multi"}, {"title": "values"}]))
        session.execute(insert(Note).from_select(["title", "stars"], select(Note.title + " copy", Note.stars)))
        session.execute(insert(Place), [{"country": "no", "number": 1, "name": "Oslo"}])
    assert len(assert_index_matches(engine, search)) == 19


def test_an_upsert_is_indexed_as_it_ends(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    rows = [{"id": 1, "title": "taken", "body": "b"}, {"id": 9, "title": "new", "body": "b"}]
    upsert = on_conflict(engine)
    upsert = upsert.on_conflict_do_update(index_elements=["id"], set_={"title": upsert.excluded.title + "!"})
    with maker.begin() as session:
        session.execute(upsert, rows)
        session.execute(on_conflict(engine).values(id=2, title="left", body="b").on_conflict_do_nothing())
    assert sorted(assert_index_matches(engine, search).values()) == ["new\nb", "taken!\nb", "three\nb", "two\nb"]


def test_results_are_what_they_were(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    session: Any
    with maker.begin() as session:
        assert session.execute(insert(Note).values(title="a")).inserted_primary_key == (4,)
        assert session.execute(insert(Note).values([{"title": "b"}, {"title": "c"}])).rowcount == 2
        returned = insert(Note).returning(Note.id, Note.title)
        assert session.execute(returned, [{"title": "d"}, {"title": "e"}]).all() == [(7, "d"), (8, "e")]
        assert session.scalars(insert(Note).returning(Note.title), [{"title": "f"}]).all() == ["f"]
        assert [one.title for one in session.scalars(insert(Note).returning(Note), [{"title": "g"}])] == ["g"]
        assert session.execute(update(Note).where(Note.id > 7).values(stars=1)).rowcount == 3
        changed = update(Note).where(Note.id == 1).values(title="z").returning(Note.id, Note.title)
        assert session.execute(changed).all() == [(1, "z")]
        assert session.scalars(delete(Note).where(Note.id == 2).returning(Note.title)).all() == ["two"]
    assert_index_matches(engine, search)


def test_inherited_classes(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker.begin() as session:
        session.add_all([Dog(name="Rex", trick="roll"), Cat(name="Tom", purr="loud")])
    with maker.begin() as session:
        session.execute(update(Animal).values(name=Animal.name + "!"))
        session.execute(update(Cat).values(purr="soft"))
        session.execute(insert(Cat), [{"name": "Kit", "kind": "cat"}])
        session.execute(insert(Dog), [{"name": "Ace", "kind": "dog"}])
    names = sorted(value for (entity, _), value in assert_index_matches(engine, search).items() if entity != "Note")
    assert names == ["Ace", "Kit", "Rex!", "Tom!\nsoft"]
    with maker.begin() as session:
        session.execute(delete(Cat).where(Cat.purr.is_(None)))
    assert ("Cat", "3") not in assert_index_matches(engine, search)


def test_what_a_record_depends_on(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker.begin() as session:
        session.add(Article(title="by", author=Author(name="Ann"), tags=[Tag(label="red")]))
    with maker.begin() as session:
        session.execute(update(Author).values(name="Bob"))
        session.execute(update(Tag), [{"id": 1, "label": "blue"}])
    assert assert_index_matches(engine, search)["Article", "1"] == "by by Bob #blue"


def test_an_update_of_keys_is_refused(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker() as session, pytest.raises(InvalidInput, match=r"sets Place\.number, part of the primary key"):
        session.execute(update(Place).values(number=Place.number + 1))
    assert_index_matches(engine, search)


def test_legacy_bulk_methods(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker.begin() as session:
        session.bulk_save_objects([Note(title="saved"), Place(country="no", number=1, name="Oslo")])
        rows: list[dict[str, Any]] = [{"title": "inserted"}]
        session.bulk_insert_mappings(Note.__mapper__, rows)
        assert rows == [{"title": "inserted"}]
        session.bulk_insert_mappings(Note.__mapper__, rows, return_defaults=True)
        assert rows[0]["id"] == 6
        session.bulk_update_mappings(Note.__mapper__, [{"id": 1, "title": "updated"}])
        session.bulk_save_objects([Author(name="not searchable")])
    values = sorted(assert_index_matches(engine, search).values())
    assert values == ["Oslo", *["inserted\nempty"] * 2, "saved\nempty", "three\nb", "two\nb", "updated\nb"]


def test_a_statement_that_is_rolled_back_changes_nothing(maker: Maker, engine: Engine, search: SearchEngine) -> None:
    with maker() as session:
        session.execute(update(Note).values(title="gone"))
        savepoint = session.begin_nested()
        session.execute(delete(Note))
        savepoint.rollback()
        session.rollback()
    assert sorted(assert_index_matches(engine, search).values()) == ["one\nb", "three\nb", "two\nb"]


def test_statements_about_others_run_untouched(maker: Maker, engine: Engine, provider: HashProvider) -> None:
    calls = len(provider.calls)
    with maker.begin() as session:
        session.execute(insert(Author), [{"name": "Ann"}])
        assert session.execute(select(Author.name)).scalars().all() == ["Ann"]
    assert len(provider.calls) == calls
