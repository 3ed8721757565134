"""`kameleon embeddings reindex` and the commands about its runs, as users run them."""

import json
import os
import pty
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import URL

import kameleon
from kameleon import SearchEngine
from kameleon.embeddings.static import BUNDLED
from kameleon.reindex.request import Request
from kameleon.reindex.run import Run as ReindexRun

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]
MANY = 3_000


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    server: URL = request.getfixturevalue("pg_url")
    return server.render_as_string(hide_password=False)


@pytest.fixture
def environment(url: str, tmp_path: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("KAMELEON_")}
    return {**plain, "COLUMNS": "100", "KAMELEON_URL": url, "TMPDIR": str(tmp_path)}


@pytest.fixture
def start(console_script: str, tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """`kameleon embeddings …`, running."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str, **more: Any) -> "subprocess.Popen[bytes]":
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        command = [console_script, "embeddings", *arguments]
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start: Callable[..., Any]) -> Run:
    def call(*arguments: str, status: int = 0) -> Done:
        process = start(*arguments)
        out, err = (output.decode() for output in process.communicate(timeout=120))
        assert process.returncode == status, err
        assert "Traceback" not in err
        return Done(arguments, status, out, err)

    return call


@pytest.fixture
def here(command: Callable[..., Done], environment: dict[str, str]) -> Run:
    """`kameleon embeddings …` in this process."""

    def call(*arguments: str, status: int = 0) -> Done:
        done = command("embeddings", *arguments, environment=environment)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture
def search(url: str) -> Iterator[SearchEngine]:
    engine = kameleon.create_engine(url)
    yield SearchEngine(engine, "static")
    engine.dispose()


@pytest.fixture
def pages(search: SearchEngine) -> SearchEngine:
    search.index_records_batch(
        [("Page", n, f"words of page {n} about {['sea', 'land', 'sky'][n % 3]}") for n in range(60)]
    )
    return search


@pytest.fixture
def many(search: SearchEngine) -> SearchEngine:
    search.index_records_batch([("Page", n, f"some words {n}") for n in range(MANY)])
    return search


@pytest.fixture(autouse=True)
def other(tmp_path: Path) -> Path:
    """Another model: the bundled one with its words exchanged."""
    folder = tmp_path / "other-256"
    shutil.copytree(BUNDLED, folder)
    raw = (folder / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    (folder / "model.safetensors").write_bytes(raw[:header] + raw[header:][::-1])
    return folder


def models(search: SearchEngine) -> dict[int, tuple[str, str]]:
    return {model.number: (model.model_name, model.state) for model in search.generations()}


def test_an_index_moves_to_another_model_and_back(run: Run, here: Run, pages: SearchEngine) -> None:
    plan = json.loads(run("reindex", "--model", "other-256", "--dry-run", "--rate", "30", "--json").stdout)
    assert (plan["action"], plan["rows"], plan["embedding_s"], plan["cost"]) == ("built", 60, 2.0, None)
    assert models(pages) == {1: ("static-en-256", "active")}
    done = here("reindex", "--model", "other-256", "--gate", "0", "--batch-size", "40", "--json")
    report = json.loads(done.stdout)
    assert (report["action"], report["embedded"], report["switched"], report["gate"]["queries"]) == (
        "built",
        60,
        True,
        60,
    )
    assert report["rows_per_second"] > 0
    assert "reindex: wrote batch 2 (20 rows)\n" in done.stderr
    assert models(pages) == {1: ("static-en-256", "retired"), 2: ("other-256", "active")}
    assert "`kameleon embeddings rollback` goes back" in here("status").stdout
    assert here("reindex").stdout == "other-256 is the index's model and nothing is pending\n"
    assert here("rollback").stdout.startswith("rolled back: generation 1 (static-en-256), switched to\n0 embedded")
    assert here("prune").stdout == "dropped generation 2 (other-256)\n"
    assert here("prune").stdout == "nothing to drop\n"
    assert json.loads(here("prune", "--json").stdout) == {"dropped": [], "waiting": []}
    assert "there is no generation to go back to" in here("rollback", status=1).stderr
    assert here("cancel").stdout == "nothing to cancel: no reindex is under way\n"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_dry_run_is_described_on_stderr(run: Run, pages: SearchEngine) -> None:
    done = run("reindex", "--model", "other-256", "--dry-run", "--price-per-million", "3")
    assert done.stdout == ""
    first, rows, texts, cost, *_ = done.stderr.splitlines()
    assert first == "would build other-256, 256 dimensions, beside static-en-256, 256 dimensions"
    assert rows == "60 records in 1 batches of 128"
    assert texts.startswith("60 distinct texts, 0 of them cached; about ")
    assert cost.startswith("cost: about 0.00")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_one_tenant_is_embedded_again(here: Run, pages: SearchEngine) -> None:
    pages.index_records_batch([("Memo", n, f"memo {n}") for n in range(3)], tenant="t1")
    assert json.loads(here("reindex", "--tenant", "t1", "--force", "--dry-run", "--json").stdout)["rows"] == 3
    report = json.loads(here("reindex", "--tenant", "t1", "--force", "--json").stdout)
    assert (report["embedded"], report["switched"]) == (3, True)


def test_a_gate_refuses_another_model(run: Run, pages: SearchEngine, tmp_path: Path) -> None:
    judged = {"query": "sea", "relevant": [{"entity": "Page", "id": "0"}]}
    (tmp_path / "queries").write_text(json.dumps(judged) + "\n" + json.dumps({"query": "page 7"}) + "\n")
    arguments = ("reindex", "--model", "other-256", "--gate-queries", "queries", "--gate", "1")
    error = run(*arguments, status=1).stderr
    assert "is built and not switched to: overlap@10 is 0." in error
    assert "over 2 queries, at least 1.0 is required" in error
    assert models(pages)[1] == ("static-en-256", "active")
    done = run("reindex", "--gate", "0", "--gate-queries", "queries", "--gate-ndcg", "0", "--drop-old").stdout
    assert "nDCG@10 " in done
    assert "after over 1 judged" in done
    assert models(pages) == {2: ("other-256", "active")}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_run_that_was_stopped_resumes(run: Run, pages: SearchEngine) -> None:
    stopped = run("reindex", "--model", "other-256", "--max-minutes", "0").stdout
    assert stopped.startswith(
        "not finished: generation 2 (other-256), not switched to\n0 embedded, 0 reused, 0 failed, 60 pend"
    )
    assert stopped.endswith("stopped: 0 minutes are over. Run it again, with the same options, to resume\n")
    assert (
        "0 of 60 records, no process works at it: `kameleon embeddings reindex` with the same options resumes"
        in run("status").stdout
    )
    assert run("reindex").stdout.startswith("built: generation 2 (other-256), switched to\n60 embedded")
    (reindexed,) = json.loads(run("status", "--json").stdout)["runs"]
    assert (reindexed["generation"], reindexed["phase"], reindexed["embedded"]) == (2, "done", 60)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_that_resumes(
    run: Run, start: Callable[..., Any], many: SearchEngine, number: signal.Signals, status: int
) -> None:
    process = start("reindex", "--model", "other-256", "--batch-size", "1")
    for line in process.stderr:
        if b"wrote batch 5 " in line:
            break
    process.send_signal(number)
    _out, err = process.communicate(timeout=120)
    assert process.returncode == status
    assert b"what was written is kept. Run it again, with the same options, to resume" in err
    assert b"Traceback" not in err
    (rebuild,) = many.reindexing.status()
    assert (rebuild.owner, rebuild.phase) == (None, "stopped")
    assert 5 <= rebuild.embedded < MANY
    report = json.loads(run("reindex", "--json").stdout)
    assert (report["embedded"], report["switched"]) == (MANY - rebuild.embedded, True)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_provider_that_is_down_is_one_line(run: Run, pages: SearchEngine, environment: dict[str, str]) -> None:
    environment["OPENAI_API_KEY"] = "sk-none"
    environment["OPENAI_BASE_URL"] = "http://127.0.0.1:9"
    done = run("reindex", "--model", "text-embedding-3-small", status=1)
    assert "60 pending" in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("stopped, the provider is down: ")
    assert last.endswith(". Run it again, with the same options, to resume")
    assert models(pages)[1] == ("static-en-256", "active")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_another_run_is_seen_refused_and_cancelled(run: Run, pages: SearchEngine) -> None:
    request = Request(force=True)
    held = ReindexRun(pages.reindexing, request, pages.reindexing.target(request))
    held.begin()
    owner = f"process {os.getpid()} on "
    assert f"reindex: generation 2, 0 of 60 records, embedding, 0 records/s, {owner}" in run("status").stdout
    assert json.loads(run("status", "--json").stdout)["runs"][0]["owner"].startswith(owner)
    assert f"Error: {owner}" in run("reindex", "--force", status=1).stderr
    assert f"Error: {owner}" in run("reindex", "--force", "--background", status=1).stderr
    assert run("cancel").stdout.startswith(f"requested {owner}")
    held.end()
    assert json.loads(run("cancel", "--json").stdout) == {"cancelled": []}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_rollback_that_ends_early_is_not_to_be_run_again(run: Run, pages: SearchEngine, url: str) -> None:
    run("reindex", "--model", "other-256")
    engine = kameleon.create_engine(url)
    SearchEngine(engine).index_record("Page", "late", "words of a late page")
    engine.dispose()
    request = Request(force=True)
    held = ReindexRun(pages.reindexing, request, pages.reindexing.target(request))
    held.begin()
    output = run("rollback").stdout
    assert output.startswith("rolled back: generation 1 (static-en-256), switched to\n")
    assert f"1 records are pending: process {os.getpid()} on " in output
    held.end()
    assert "Run it again" not in output
    assert models(pages)[1] == ("static-en-256", "active")
    assert run("sync").stdout.startswith("1 embedded")


def test_in_place_warns_and_drops_the_old_first(run: Run, pages: SearchEngine) -> None:
    done = run("reindex", "--model", "other-256", "--in-place", "--max-minutes", "0")
    assert done.stderr.startswith("--in-place drops the old embeddings first: only keywords answer until")
    assert models(pages) == {2: ("other-256", "building")}
    assert "seconds" not in run("reindex", "--in-place").stderr
    assert models(pages) == {2: ("other-256", "active")}
    assert run("reindex", "--in-place").stderr == ""


def test_in_the_background_it_outlives_its_parent(run: Run, many: SearchEngine) -> None:
    begun = json.loads(run("reindex", "--model", "other-256", "--batch-size", "4", "--background", "--json").stdout)
    while any(rebuild.owner for rebuild in many.reindexing.status()):
        assert begun["is_done"] is False
    assert models(many)[2] == ("other-256", "active")
    log = Path(begun["log"]).read_text()
    assert "reindex: switched generation=2 model=other-256\n" in log
    assert "nothing is pending" in run("reindex", "--background").stdout


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_an_error_in_the_background_is_the_commands_own(run: Run, pages: SearchEngine, tmp_path: Path) -> None:
    done = run("reindex", "--provider", "nobody", "--background", status=1)
    assert done.stderr.startswith("Error: Unknown embedding provider 'nobody'")
    assert list(tmp_path.glob("*.log")) == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("--in-place --gate 0.5", 2, "nothing for a gate"),
        ("--in-place --drop-old", 2, "leave --drop-old out"),
        ("--in-place --tenant t1", 2, "name no entity and no tenant"),
        ("--tenant t3", 1, "nothing of 't3' is in the index"),
        ("--gate-ndcg 1", 2, "goes with --gate-queries"),
        ("--rate 5", 2, "goes with --dry-run"),
        ("--rate 0 --dry-run", 2, "--rate"),
        ("--rate nan --dry-run", 1, "above 0"),
        ("--price-per-million 1", 2, "goes with --max-cost or --dry-run"),
        ("--background --dry-run", 2, "exclude each other"),
        ("--batch-size 0", 2, "--batch-size"),
        ("--gate 2", 1, "lies between 0 and 1"),
        ("--gate nan", 1, "lies between 0 and 1"),
        ("--gate-queries missing", 2, "--gate-queries"),
        ("--gate-queries empty", 1, "empty has no queries"),
        ("--gate-queries binary", 1, "binary is not UTF-8"),
        ("--gate-queries words", 1, "words: line 1 is not {"),
        ("--gate-queries plain --gate-ndcg 1", 1, "no query has `relevant`"),
        ("--max-cost 1 --force", 1, "max_cost needs price_per_million"),
        ("--dimensions 7", 1, "256 dimensions, 7 were requested"),
        ("Nobody", 1, "It has: Page"),
        ("--model other-256 Page", 1, "Name no entity"),
        ("--import no.such.module", 2, "--import no.such.module"),
    ],
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_cannot_be_done_is_reported(
    here: Run, pages: SearchEngine, tmp_path: Path, arguments: str, status: int, message: str
) -> None:
    files = {"empty": b"\n", "binary": b"\xff\xfe", "words": b"just words\n", "plain": b'{"query": "sea"}\n'}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert message in here("reindex", *arguments.split(), status=status).stderr
    assert models(pages) == {1: ("static-en-256", "active")}


# on a terminal


def output_on_a_terminal(start: Callable[..., Any], *arguments: str, until: bytes = b"") -> tuple[Any, bytes]:
    """A process whose stderr is a terminal, and its output there: all of it, or up to `until`."""
    ours, theirs = pty.openpty()
    process = start(*arguments, stderr=theirs)
    os.close(theirs)
    output = b""
    try:
        while (not until or until not in output) and (chunk := os.read(ours, 4096)):
            output += chunk
    except OSError:
        pass
    if until:
        Thread(target=drain, args=(ours,), daemon=True).start()
    return process, output


def drain(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        return


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_terminal_shows_a_bar(start: Callable[..., Any], many: SearchEngine, environment: dict[str, str]) -> None:
    environment["TERM"] = "xterm"
    process, output = output_on_a_terminal(start, "reindex", "--model", "other-256")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert b"embedding" in output
    assert b"wrote batch" not in output
    assert out.startswith(b"built: generation 2 (other-256), switched to\n3000 embedded")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_ctrl_c_before_a_run_in_place_changes_nothing(
    start: Callable[..., Any], pages: SearchEngine, environment: dict[str, str]
) -> None:
    process, _ = output_on_a_terminal(start, "reindex", "--force", "--in-place", until=b"Ctrl-C changes nothing")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert models(pages) == {1: ("static-en-256", "active")}
