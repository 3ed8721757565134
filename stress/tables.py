"""How soon the rows of a table that exists are searchable, by `kameleon table add` and by a loop written by hand; what
adding it once more costs, and `embeddings sync` after raw SQL."""

import json
from typing import Any

import numpy as np
from sqlalchemy import Engine

from kameleon.embeddings import StaticProvider
from kameleon.stores.postgresql.hnsw import INDEXED_FROM

from .by_hand import Hand, copy_rows
from .corpus import documents
from .database import POSTGRESQL, address, database
from .report import Arguments, Figures, run_command, stopwatch

BATCH = 1_000
"""Rows a transaction, and rows that the loop reads and embeds at a time."""
CHANGED_SHARE = 10
"""One row in so many is changed by raw SQL before `embeddings sync`."""
DDL = "CREATE TABLE film (id integer PRIMARY KEY, title text NOT NULL, extract text, year integer)"
COLUMNS = ("id", "title", "extract", "year")
ADD = ("table", "add", "film", "--text", "title", "--text", "extract", f"--batch-size={BATCH}", "--no-confirm")


def run(args: Arguments) -> Figures:
    """The run's own figures are those of `table add`, its start included; the loop has started already. On PostgreSQL
    both build the vector index at the end, from as many rows on."""
    with database(args.backend) as engine:
        fill(engine, args.rows, args.seed)
        _, seconds, memory = run_command("-d", address(engine), "--json", *ADD)
        again, again_seconds, _ = run_command("-d", address(engine), "--json", *ADD)
        assert embedded(again) == 0, again
        changed, change_seconds = change(engine)
        synced, sync_seconds, _ = run_command("-d", address(engine), "--json", "embeddings", "sync")
        assert embedded(synced) == changed, synced
    with database(args.backend) as engine:
        fill(engine, args.rows, args.seed)
        hand = by_hand(engine, with_hnsw=args.backend == POSTGRESQL and args.rows >= INDEXED_FROM)
    return {
        "rows": args.rows,
        "seconds": round(seconds, 2),
        "rows_per_second": round(args.rows / seconds),
        "by_hand_seconds": round(hand, 2),
        "times_by_hand": round(seconds / hand, 2),
        "peak_mb": round(memory),
        "again": {"seconds": round(again_seconds, 2)},
        "raw_update": {"rows": changed, "seconds": round(change_seconds, 2), "sync_seconds": round(sync_seconds, 2)},
    }


def embedded(output: str) -> int:
    return int(json.loads(output)["embedded"])


def fill(engine: Engine, rows: int, seed: int) -> None:
    """Films with their extracts; titles differ where a film is there again."""
    found = ((int(one["id"]), f"{one['title']} ({one['id']})", one["text"]) for one in documents(rows, seed))
    values = ((number, title, text, 1900 + number % 120) for number, title, text in found)
    hand = Hand(engine)
    with hand.connection() as driver:
        driver.execute(DDL)
        if hand.is_sqlite:
            driver.executemany("INSERT INTO film VALUES (?, ?, ?, ?)", values)
        else:
            with driver.cursor() as cursor:
                copy_rows(cursor, "film", ", ".join(COLUMNS), ("int4", "text", "text", "int4"), [*values])
        driver.commit()


def change(engine: Engine) -> tuple[int, float]:
    """Rows that one UPDATE of a program without kameleon changed, and its seconds with the triggers there."""
    with Hand(engine).connection() as driver, stopwatch() as watch:
        statement = f"UPDATE film SET title = 'Director''s cut: ' || title WHERE id % {CHANGED_SHARE} = 0"
        changed = driver.execute(statement).rowcount
        driver.commit()
    return changed, watch.seconds


def by_hand(engine: Engine, *, with_hnsw: bool) -> float:
    """A loop over the table: read, embed with the same model, write; a commit a batch. No condition, no trigger, no
    comparison with what is there."""
    provider = StaticProvider()
    provider.embed_batch(["a text"])
    hand = Hand(engine)
    hand.make_tables()
    with hand.connection() as driver, stopwatch() as watch:
        last, number = -1, 0
        while rows := batch_after(driver, last):
            last = rows[-1][0]
            texts = [f"{title}\n{extract}" for _, title, extract in rows]
            hand.write(driver, texts, np.asarray(provider.embed_batch(texts), np.float32), number)
            driver.commit()
            number += len(rows)
        if with_hnsw:
            hand.index(driver)
    return watch.seconds


def batch_after(driver: Any, last: int) -> list[Any]:
    statement = f"SELECT id, title, extract FROM film WHERE id > {last} ORDER BY id LIMIT {BATCH}"
    return list(driver.execute(statement).fetchall())
