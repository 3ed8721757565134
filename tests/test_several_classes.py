"""A search of several mapped classes, and of the record store beside them, with one `where`, on each database."""

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.errors import InvalidFilter, InvalidInput

from .conftest import with_server


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"])
class Story(Base):
    __tablename__ = "several_story"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    published: Mapped[bool]
    rank: Mapped[int | None]
    kind: Mapped[str]


@searchable(fields=["name"])
class Product(Base):
    __tablename__ = "several_product"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    published: Mapped[bool]
    rank: Mapped[int | None]
    kind: Mapped[str]
    price: Mapped[int]


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def filled(search: SearchEngine, engine: Engine) -> SearchEngine:
    """Six records of each, of which every other is published."""
    Base.metadata.create_all(engine)
    rows = [{"published": n % 2 == 0, "rank": n or None, "kind": "ab"[n % 4 // 2]} for n in range(6)]
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all(Story(id=n, title=f"lamp story {n}", **row) for n, row in enumerate(rows))
        session.add_all(Product(id=str(n), name=f"lamp {n}", price=n, **row) for n, row in enumerate(rows))
    RecordStore(search).insert("Page", [{"id": n, "text": f"lamp page {n}", **row} for n, row in enumerate(rows)])
    return search


def refs(hits: Any) -> list[tuple[str, str]]:
    return [(hit.entity, hit.id) for hit in hits]


PUBLISHED = [(entity, id_) for entity in ("Product", "Story") for id_ in "024"]


@pytest.mark.parametrize("query", ["lamp", ""])
def test_one_where_is_for_all_classes(filled: SearchEngine, query: str) -> None:
    options: dict[str, Any] = {"entity": [Story, Product], "where": {"published": True}}
    found = filled.search(query, facets=["kind"], count=True, **options)
    assert sorted(refs(found)) == PUBLISHED
    assert (found.total, found.facets) == (6, {"kind": {"a": 4, "b": 2}})
    by_rank = [(entity, id_) for id_ in "420" for entity in ("Product", "Story")]
    assert refs(filled.search(query, sort="-rank", limit=5, **options)) == by_rank[:5]
    groups = filled.search(query, group_by="entity", limit=2, **options).groups
    assert {entity: len(hits) for entity, hits in groups.items()} == {"Product": 2, "Story": 2}
    first = filled.search(query, limit=4, **options)
    rest = filled.search(query, limit=4, cursor=first.cursor, **options)
    assert sorted(refs(first) + refs(rest)) == PUBLISHED
    among = filled.search(query, mode="vector", ids=["4", "5"], **options)
    assert sorted(refs(among)) == [("Product", "4"), ("Story", "4")]


@pytest.mark.parametrize("query", ["lamp", ""])
def test_the_record_store_is_searched_beside_classes(filled: SearchEngine, query: str) -> None:
    where = {"published": True, "rank": {"$gte": 3}}
    found = filled.search(query, entities=["Page", Story], where=where, facets=["kind", "rank"], sort="rank")
    assert sorted(refs(found)) == [("Page", "4"), ("Story", "4")]
    assert found.facets == {"kind": {"a": 2}, "rank": {4: 2}}
    everywhere = filled.search(query, entities=["Page", Story, Product], where={"kind": "b"}, count=True)
    assert everywhere.total == 6
    assert sorted(refs(everywhere)) == [(name, id_) for name in ("Page", "Product", "Story") for id_ in "23"]
    assert filled.search(query, entity=["Page", Product], count=True).total == 12


def test_a_field_word_is_of_all_classes(filled: SearchEngine) -> None:
    found = filled.search("kind:b lamp", entity=[Story, Product])
    assert sorted(refs(found)) == [(entity, id_) for entity in ("Product", "Story") for id_ in "23"]


def test_what_one_class_has_not_is_named(filled: SearchEngine) -> None:
    for options in ({"where": {"price": 3}}, {"facets": ["price"]}, {"sort": "price"}):
        for query in ("lamp", ""):
            with pytest.raises(InvalidFilter, match="Story has no column 'price'"):
                filled.search(query, entity=[Story, Product], **options)
    with pytest.raises(InvalidInput, match="a mapping of columns that all have"):
        filled.search("lamp", entity=[Story, Product], where=Story.published)
