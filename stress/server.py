"""The server of `kameleon serve`: 8 clients of /api/search against the library in 8 threads, alternating; the page in
headless Chromium: its first paint, and each keystroke until its hits are shown.

The server is a process of its own, one worker of uvicorn as the command starts it, and so is the library: the clients
run in this one, on the same cores. Both answer the same queries, with highlights, and the answers are compared.
"""

import http.client
import json
import math
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Lock, local
from time import perf_counter
from typing import Any
from urllib.parse import quote, urlsplit

from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import StaticProvider

from .corpus import passages
from .database import address, database
from .report import Arguments, Figures, latencies, stopwatch
from .search import fill, open_engine, questions

CLIENTS = 8
ROUNDS = 6
"""How often both are measured, one after the other: chosen so that a drift of the machine is in both."""
QUERIES_A_ROUND = 300
COMPARED = 20
TARGET = 0.8
"""The least throughput over HTTP, over that of the library in as many threads."""
LOADS = 7
KEYSTROKES = 40
FIRST_PAINT_MS, KEYSTROKE_MS = 200, 100


def run(args: Arguments) -> Figures:
    texts = passages(args.rows, args.seed)
    queries = questions(texts, args.seed)
    with database(args.backend) as engine:
        with stopwatch() as watch:
            fill(RecordStore(SearchEngine(engine, StaticProvider())), texts)
        with worker(serve, address(engine)) as server, worker(answer, address(engine)) as library:
            url = server.first
            compare(url, library.connection, queries[:COMPARED])
            found = {"rows": args.rows, "insert_seconds": round(watch.seconds, 1), "clients": CLIENTS}
            return {**found, **throughput(server, library, queries), "page": page(url, texts, args.seed)}


# Two processes


@dataclass(frozen=True)
class Worker:
    """A process that works on the database; `first` is its first message."""

    pid: int
    connection: Connection
    first: str

    @property
    def cpu_ms(self) -> float:
        """Of all its threads, where Linux counts it."""
        stat = Path(f"/proc/{self.pid}/stat")
        if not stat.is_file():
            return math.nan
        user, system = stat.read_text().rpartition(")")[2].split()[11:13]
        return 1000 * (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def worker(work: Callable[[str, Connection], None], url: str) -> Iterator[Worker]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(url, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        assert process.pid is not None
        yield Worker(process.pid, ours, ours.recv())
    finally:
        process.terminate()
        process.join()


def serve(url: str, sender: Connection) -> None:
    import socket

    import uvicorn

    from kameleon.server import app

    with socket.create_server(("127.0.0.1", 0)) as listening:
        sender.send(f"http://127.0.0.1:{listening.getsockname()[1]}")
        search = SearchEngine(open_engine(url), StaticProvider())
        config = uvicorn.Config(app(search), log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])


def answer(url: str, connection: Connection) -> None:
    """Answers lists of queries by their milliseconds and the seconds of all, and single ones by the ids of the hits."""
    search = SearchEngine(open_engine(url), StaticProvider())
    connection.send("")
    while True:
        wanted = connection.recv()
        if isinstance(wanted, str):
            connection.send([hit.id for hit in search.search(wanted, highlight=True)])
        else:
            connection.send(in_threads(partial(search.search, highlight=True), wanted))


def in_threads(call: Callable[[str], Any], queries: Sequence[str]) -> tuple[list[float], float]:
    def timed(query: str) -> float:
        start = perf_counter()
        call(query)
        return 1000 * (perf_counter() - start)

    with ThreadPoolExecutor(CLIENTS) as threads, stopwatch() as watch:
        took = list(threads.map(timed, queries))
    return took, watch.seconds


# Throughput


class Client:
    """One connection a thread, kept alive."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc
        self._mine = local()
        self._lock = Lock()
        self._opened: list[http.client.HTTPConnection] = []

    def get(self, query: str) -> bytes:
        self._connection.request("GET", f"/api/search?query={quote(query)}")
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status} for {query!r}: {body[:500]!r}")
        return body

    def close(self) -> None:
        for connection in self._opened:
            connection.close()

    @property
    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = http.client.HTTPConnection(self.host, timeout=60)
            with self._lock:
                self._opened.append(self._mine.connection)
        connection: http.client.HTTPConnection = self._mine.connection
        return connection


def compare(url: str, library: Connection, queries: Sequence[str]) -> None:
    client = Client(url)
    for query in queries:
        library.send(query)
        expected, found = library.recv(), [hit["id"] for hit in json.loads(client.get(query))["hits"]]
        if not expected or found != expected:
            raise RuntimeError(f"the server found {found} for {query!r}, the library {expected}")
    client.close()


def throughput(server: Worker, library: Worker, queries: Sequence[str]) -> Figures:
    """The first round is discarded: connections open, and caches fill. `cpu_ms` are of one search."""
    took: dict[str, list[float]] = {"server": [], "library": []}
    ratios, began = [], {"server": 0.0, "library": 0.0}
    waiting = cycle(queries)
    for number in range(ROUNDS + 1):
        batch = list(islice(waiting, QUERIES_A_ROUND))
        client = Client(server.first)
        of_server, server_s = in_threads(client.get, batch)
        client.close()
        library.connection.send(batch)
        of_library, library_s = library.connection.recv()
        if number:
            took["server"] += of_server
            took["library"] += of_library
            ratios.append(library_s / server_s)
        else:
            began = {"server": server.cpu_ms, "library": library.cpu_ms}
    cpu_ms = {"server": server.cpu_ms - began["server"], "library": library.cpu_ms - began["library"]}
    return {
        "times_library": round(median(ratios), 2),
        "target": TARGET,
        "ratios": [round(ratio, 2) for ratio in ratios],
        **{name: rates(milliseconds, cpu_ms[name]) for name, milliseconds in took.items()},
    }


def rates(milliseconds: Sequence[float], cpu_ms: float) -> Figures:
    per_second = 1000 * CLIENTS * len(milliseconds) / sum(milliseconds)
    cpu = round(cpu_ms / len(milliseconds), 2)
    return {"searches_per_second": round(per_second), **latencies(milliseconds), "cpu_ms": cpu}


# The page


def page(url: str, texts: Sequence[str], seed: int) -> Figures:
    from .workloads import browser

    if None in (browser.CHROMIUM, browser.CHROMEDRIVER):
        return {"not_measured": browser.ABSENT}
    with TemporaryDirectory() as folder, browser.chromium(Path(folder)) as driver:
        browser.shaped(driver, 1280)
        paints = [painted(driver, f"{url}/") for _ in range(LOADS + 1)][1:]
        return {
            "first_paint_ms": median(paints),
            "first_paint_target_ms": FIRST_PAINT_MS,
            "keystroke_target_ms": KEYSTROKE_MS,
            **keystrokes(driver, typed(texts, seed)),
        }


def painted(driver: Any, url: str) -> float:
    """From the request to the first paint with content, with nothing in the browser's cache."""
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.get("about:blank")
    driver.get(url)
    entry = "const [found] = performance.getEntriesByName('first-contentful-paint'); return found && found.startTime"
    from .workloads.browser import until

    return round(float(until(driver, lambda: driver.execute_script(entry))), 1)


def typed(texts: Sequence[str], seed: int) -> str:
    """Words as a reader types them."""
    chance = random.Random(seed)
    words = [word for word in chance.choice(texts).split() if word.isalpha()]
    return " ".join(words)[:KEYSTROKES]


OBSERVE = """
const [box, summary] = arguments;
window.shown = [];
box.addEventListener('input', () => { window.started = performance.now(); }, true);
new MutationObserver(() => window.shown.push(performance.now() - window.started)).observe(summary, {childList: true});
"""
"""The line above the hits changes with each answer, in the same task as the hits."""


def keystrokes(driver: Any, words: str) -> Mapping[str, Any]:
    """From each keystroke until its hits are in the page, with its pause before the request; and the requests alone."""
    from .workloads.browser import until

    box = until(driver, lambda: driver.find_element("id", "query"))
    driver.execute_script(OBSERVE, box, driver.find_element("class name", "summary"))
    took = []
    for character in words:
        driver.execute_script("window.shown = []")
        box.send_keys(character)
        until(driver, lambda: driver.execute_script("return window.shown.length"))
        took.append(driver.execute_script("return window.shown[0]"))
    entries = "return performance.getEntriesByType('resource').filter(e => e.name.includes('/api/search'))"
    requests = driver.execute_script(f"{entries}.map(e => e.responseEnd - e.startTime)")
    return {"keystroke": latencies(took), "requests": latencies(requests)}
