"""What triggers cost the statements of a program that does not use kameleon: raw inserts, updates and deletes of a
table without triggers, with one written by hand that keeps the key, with kameleon's, and with those of a text of
another table."""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine

from kameleon import SearchEngine

from .by_hand import Hand
from .database import database
from .insert import AtHand
from .report import Arguments, Figures, stopwatch

TRIES = 3
"""Of each kind, of which the fastest counts."""
ROWS_OF_AN_AUTHOR = 100
TABLES = (
    "CREATE TABLE author (id integer PRIMARY KEY, name text)",
    "CREATE TABLE book (id integer PRIMARY KEY, title text, author_id integer REFERENCES author, views integer)",
    "CREATE INDEX book_author ON book (author_id)",
)
KEPT = "CREATE TABLE kept (seq integer PRIMARY KEY, id text)"
KEPT_POSTGRESQL = "CREATE TABLE kept (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text)"
SQLITE_TRIGGER = (
    "CREATE TRIGGER keep_{event} AFTER {event} ON book BEGIN INSERT INTO kept (id) VALUES (CAST({row}.id AS text)); END"
)
POSTGRESQL_FUNCTION = """
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO kept (id) VALUES (coalesce(NEW.id, OLD.id)::text);
      RETURN NULL;
    END $$
"""
POSTGRESQL_TRIGGER = "CREATE TRIGGER keep AFTER INSERT OR UPDATE OR DELETE ON book FOR EACH ROW EXECUTE FUNCTION keep()"


def run(args: Arguments) -> Figures:
    """Microseconds a row. The run's own figures are those of an update; `times_by_hand` compares it with that of the
    trigger written by hand."""
    kinds: dict[str, Callable[[Engine], None]] = {
        "without": lambda engine: None,
        "by_hand": by_hand,
        "with": lambda engine: track(engine, ["title"]),
        "with_join": lambda engine: track(engine, ["title", "author.name"]),
    }
    found = {name: fastest(args, prepare) for name, prepare in kinds.items()}
    updates = {name: figures["update"] for name, figures in found.items()}
    return {
        "rows": args.rows,
        "seconds": round(updates["with"] * args.rows / 1e6, 2),
        "rows_per_second": round(1e6 / updates["with"]),
        "times_by_hand": round(updates["with"] / updates["by_hand"], 2),
        "microseconds_a_row": {name: dict(figures) for name, figures in found.items()},
    }


def fastest(args: Arguments, prepare: Callable[[Engine], None]) -> dict[str, float]:
    tries = [dict(measured(args, prepare)) for _ in range(TRIES)]
    return {name: round(min(one[name] for one in tries), 2) for name in tries[0]}


def measured(args: Arguments, prepare: Callable[[Engine], None]) -> Iterator[tuple[str, float]]:
    """Rows one by one, as an application writes them, in one transaction a kind; what is changed is committed."""
    authors = max(1, args.rows // ROWS_OF_AN_AUTHOR)
    with database(args.backend) as engine:
        hand = Hand(engine)
        mark = "?" if hand.is_sqlite else "%s"
        with hand.connection() as driver:
            for statement in TABLES:
                driver.execute(statement)
            execute_many(driver, f"INSERT INTO author VALUES ({mark}, 'a')", [(n,) for n in range(authors)])
            driver.commit()
        prepare(engine)
        rows = [(n, f"title {n}", n % authors, 0) for n in range(args.rows)]
        keys = [(n,) for n in range(args.rows)]
        statements: dict[str, tuple[str, list[Any]]] = {
            "insert": (f"INSERT INTO book VALUES ({mark}, {mark}, {mark}, {mark})", rows),
            "update": (f"UPDATE book SET views = views + 1 WHERE id = {mark}", keys),
            "update_of_authors": (f"UPDATE author SET name = 'b' WHERE id = {mark}", keys[:authors]),
            "delete": (f"DELETE FROM book WHERE id = {mark}", keys),
        }
        with hand.connection() as driver:
            for name, (statement, values) in statements.items():
                with stopwatch() as watch:
                    execute_many(driver, statement, values)
                    driver.commit()
                yield name, watch.seconds * 1e6 / len(values)


def execute_many(driver: Any, statement: str, values: list[Any]) -> None:
    driver.cursor().executemany(statement, values)


def by_hand(engine: Engine) -> None:
    hand = Hand(engine)
    with hand.connection() as driver:
        driver.execute(KEPT if hand.is_sqlite else KEPT_POSTGRESQL)
        if hand.is_sqlite:
            for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                driver.execute(SQLITE_TRIGGER.format(event=event, row=row))
        else:
            driver.execute(POSTGRESQL_FUNCTION)
            driver.execute(POSTGRESQL_TRIGGER)
        driver.commit()


def track(engine: Engine, text: list[str]) -> None:
    SearchEngine(engine, AtHand([], 0)).tables.define("book", text)
