"""Several processes at once, each with sessions of its own: nothing is lost, nothing waits for ever."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from kameleon import SearchEngine

from .conftest import Make
from .models import Article, Author, Base, Note, assert_true

ROOT = Path(__file__).parents[1]
PROCESSES, COMMITS = 3, 20

WRITER = """
import random
import sys

from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import sessionmaker

import kameleon
from kameleon import SearchEngine, Worker
from kameleon.testing import HashProvider
from tests.models import Article, Author, Note

url, number, commits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine = kameleon.create_engine(url)
search = SearchEngine(engine, HashProvider(), indexing="deferred" if number == 0 else "sync")
maker = search.attach(sessionmaker(engine))
chance = random.Random(number)


def edit_shared():
    with maker.begin() as session:
        shared = session.get(Note, chance.choice([1, 2, 3]))
        shared.title = f"shared by {number}"
        session.add(Note(title=f"{number} beside", body="b"))


for n in range(commits):
    with maker.begin() as session:
        session.add_all([Note(title=f"{number} own {n}", body="b"), Article(title=f"{number} article {n}")])
    with maker.begin() as session:
        session.execute(update(Note).where(Note.title == f"{number} own {n}").values(body="edited"))
        session.execute(delete(Article).where(Article.title == f"{number} article {n - 1}"))
        session.execute(update(Note).where(Note.id.in_([1, 2, 3])).values(stars=Note.stars + 1))
    while True:
        try:
            edit_shared()
            break
        except OperationalError as error:  # SQLite refuses a reader that another overtook: the application repeats it
            assert "database is locked" in str(error)
if number == 0:
    Worker(search).run()
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_processes_that_write_at_once_lose_nothing(search: SearchEngine, engine: Engine, make: Make) -> None:
    Base.metadata.create_all(engine)
    with search.attach(Session)(engine) as session:
        session.add_all([Note(title="shared", body="b") for _ in range(3)])
        session.add(Author(name="Ann"))
        session.commit()
    url = engine.url.render_as_string(hide_password=False)
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, str(number), str(COMMITS)], cwd=ROOT)
        for number in range(PROCESSES)
    ]
    try:
        assert [process.wait(120) for process in running] == [0] * PROCESSES
    finally:
        for process in running:
            process.kill()
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Note)) == 3 + 2 * PROCESSES * COMMITS
        assert session.scalar(select(func.count()).select_from(Article)) == PROCESSES
        assert session.scalars(select(Note.stars).where(Note.id <= 3)).all() == [PROCESSES * COMMITS] * 3
    search.sync()
    assert_true(engine, search)
