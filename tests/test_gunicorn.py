"""gunicorn with --preload and four workers, as applications are served."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

import kameleon
from kameleon import SearchEngine
from kameleon.embeddings import get_provider

from .loopback import DIMENSIONS, serving

pytest.importorskip("gunicorn")

ROOT = Path(__file__).parents[1]
WORKERS, REQUESTS, RECORDS = 4, 100, 201


@contextmanager
def gunicorn(url: str, options: dict[str, Any]) -> Iterator[str]:
    """Its address. At the end every worker ends by itself."""
    command = [sys.executable, "-m", "gunicorn", "--preload", f"--workers={WORKERS}", "--bind=127.0.0.1:0"]
    environment = {**os.environ, "PRELOADED_URL": url, "PRELOADED_PROVIDER": json.dumps(options), "NO_PROXY": "*"}
    environment |= {"OPENAI_API_KEY": "k"}
    process = subprocess.Popen(
        [*command, "--graceful-timeout=60", "tests.preloaded"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    log = []
    try:
        for line in process.stderr:
            log.append(line)
            if found := re.search(r"Listening at: (http://\S+)", line):
                break
        else:
            raise AssertionError("".join(log))
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=120)[1]
    assert process.returncode == 0
    assert "SIGKILL" not in rest, rest


@pytest.mark.parametrize(
    ("backend", "name"),
    [("sqlite", "static"), ("sqlite", "fastembed"), ("postgresql", "static"), ("postgresql", "openai")],
)
def test_preloaded_workers_answer(
    backend: str, name: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    url = f"sqlite:///{tmp_path / 'test.db'}"
    if backend == "postgresql":
        url = request.getfixturevalue("pg_url").render_as_string(hide_password=False)
    with serving() as server:
        options: dict[str, Any] = {"provider": name}
        if name == "openai":
            options |= {"model": "m", "dimensions": DIMENSIONS, "base_url": server.url}
        if name == "fastembed":
            options |= {"model": str(request.getfixturevalue("minilm"))}
        engine = kameleon.create_engine(url)
        search = SearchEngine(engine, get_provider(**options))
        search.index_records_batch([("Page", n, f"page number {n}") for n in range(RECORDS)])
        opener = build_opener(ProxyHandler({}))

        def fetch(n: int) -> dict[str, Any]:
            added = f"&add={n}" if n % 10 == 0 else ""
            with opener.open(f"{address}/?q=page+number+{n % RECORDS}{added}", timeout=60) as answer:
                return dict(json.load(answer))

        with gunicorn(url, options) as address, ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(fetch, range(REQUESTS)))
        assert [answer["ids"] for answer in answers] == [[str(n % RECORDS)] for n in range(REQUESTS)]
        assert len({answer["pid"] for answer in answers}) > 1
        assert {status.entity: status.indexed for status in search.get_status()}["Answer"] == REQUESTS // 10
        engine.dispose()
