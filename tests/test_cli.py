"""The command as users run it: most of it in this process, `script` in one of its own."""

import gzip
import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy
from sqlalchemy import URL

root = import_module("kameleon_cli.main").kameleon

Run = Callable[..., subprocess.CompletedProcess[str]]

TICKETS: list[dict[str, Any]] = [
    {"id": "1", "subject": "Refund missing", "body": "I was billed twice", "status": "open", "stars": 3},
    {"id": "2", "subject": "Parcel is late", "body": "see order #12345", "status": "closed", "stars": 5},
    {"id": "3", "subject": "Wages overdue", "body": "the payroll run failed", "status": "open"},
]


def checked(call: Callable[..., subprocess.CompletedProcess[str]]) -> Run:
    def run(
        *arguments: str, stdin: str | bytes = "", status: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("KAMELEON_")}
        raw = stdin.encode() if isinstance(stdin, str) else stdin
        result = call(*arguments, environment={**plain, "COLUMNS": "100", **variables}, stdin=raw)
        assert result.returncode == status, result.stderr
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def run(command: Callable[..., subprocess.CompletedProcess[str]]) -> Run:
    return checked(command)


@pytest.fixture
def script(console_script: str, tmp_path: Path) -> Run:
    def call(*arguments: str, environment: dict[str, str], stdin: bytes) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [console_script, *arguments], input=stdin, capture_output=True, cwd=tmp_path, env=environment, check=False
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return checked(call)


@pytest.fixture
def filled(run: Run) -> Run:
    run("data", "insert", "Ticket", stdin=lines(TICKETS))
    return run


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def hits(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [hit["id"] for hit in json.loads(result.stdout)["hits"]]


def test_the_script_inserts_searches_and_refuses(script: Run) -> None:
    script("data", "insert", "Ticket", stdin=lines(TICKETS))
    assert hits(script("search", "refund", "--limit", "1", "--json")) == ["1"]
    assert script("search", "x", "-e", "X", status=1).stderr == "Error: unknown entity 'X'. Known: Ticket\n"
    assert "--limit" in script("search", "x", "--limit", "0", status=2).stderr


def test_insert_reports_its_counts(run: Run) -> None:
    done = run("data", "insert", "Ticket", stdin=lines(TICKETS))
    assert done.stderr == "made entity Ticket, searchable: subject, body, status\n"
    assert done.stdout.startswith("Ticket: 3 inserted; 3 embedded, 0 reused, ")
    done = run("--json", "data", "insert", "Ticket", "--on-conflict", "replace", stdin=lines(TICKETS))
    summary = json.loads(done.stdout)
    assert (summary["updated"], summary["unchanged"], summary["embedded"]) == (3, 3, 0)
    assert summary["records_per_second"] > 0


@pytest.mark.parametrize(
    "text", [lines(TICKETS), json.dumps(TICKETS), json.dumps(TICKETS, indent=2)], ids=["lines", "array", "pretty array"]
)
def test_records_come_from_stdin_a_file_or_the_command_line(run: Run, tmp_path: Path, text: str) -> None:
    run("data", "insert", "A", stdin=text)
    (tmp_path / "in.json").write_text(text)
    run("data", "insert", "B", "--from-file", "in.json")
    (tmp_path / "in.json.gz").write_bytes(gzip.compress(text.encode()))
    run("data", "insert", "C", "--from-file", "in.json.gz")
    run("data", "insert", "D", text)
    run("data", "insert", "E", json.dumps(TICKETS[0], indent=2))
    status = json.loads(run("--json", "embeddings", "status").stdout)
    assert {entity["entity"]: entity["indexed"] for entity in status["entities"]} == {
        "A": 3,
        "B": 3,
        "C": 3,
        "D": 3,
        "E": 1,
    }


def test_search_finds_words_meaning_codes_and_filters(filled: Run) -> None:
    assert hits(filled("search", "refund", "--limit", "1", "--json")) == ["1"]
    assert hits(filled("--json", "search", "salary unpaid", "--limit", "1")) == ["3"]
    assert hits(filled("search", "order #12345", "--json", "--limit", "1")) == ["2"]
    assert set(hits(filled("search", "late", "--mode", "vector", "--where", '{"status": "open"}', "--json"))) == {
        "1",
        "3",
    }
    assert hits(filled("search", "refund", "--mode", "keyword", "-e", "Ticket", "--json")) == ["1"]
    assert hits(filled("search", "refund", "--min-score", "0.8", "--json")) == ["1"]


def test_search_without_a_query_lists_records(filled: Run) -> None:
    listed = json.loads(filled("search", "--where", '{"status": "open"}', "--limit", "1", "--json").stdout)
    assert ([hit["id"] for hit in listed["hits"]], listed["total"], listed["is_total_exact"]) == (["1"], 2, True)
    query = ("search", " ", "--where", '{"status": "open"}', "--limit", "1")
    assert filled(*query, "--cursor", listed["cursor"]).stdout.startswith("1.000\tTicket\t3\t")
    assert filled("search", "--id", "2", "--id", "3", "--sort", "subject").stdout.split("\t")[2] == "2"
    assert hits(filled("similar", "Ticket", "1", "--id", "3", "--json")) == ["3"]


def test_a_facets_buckets_are_filters(filled: Run) -> None:
    rows = [{"id": f"9{n}", "subject": "Refund", "stars": n, "made": f"2026-0{n + 1}-31T10:00Z"} for n in (0, 2)]
    filled("data", "insert", "Ticket", stdin="\n".join(map(json.dumps, rows)))
    query = ("search", "refund", "--mode", "keyword", "--facet", "stars:2,3", "--facet", "made:month")
    printed = filled(*query, "--facet", "status").stdout
    assert "stars: below 2 (1), 2 to 3 (1), 3 and more (1)" in printed
    assert "made: 2026-01-01 to 2026-02-01 (1), 2026-03-01 to 2026-04-01 (1)" in printed
    found = json.loads(filled(*query, "--json").stdout)["facets"]
    assert [(bucket["from"], bucket["to"]) for bucket in found["stars"]] == [(None, 2), (2, 3), (3, None)]
    for bucket in (bucket for buckets in found.values() for bucket in buckets):
        where = ("--where", json.dumps(bucket["where"]), "--count", "--json")
        assert json.loads(filled("search", "refund", "--mode", "keyword", *where).stdout)["total"] == bucket["count"]
    between = filled("search", "--facet", "made:2026-02-01,2026-03-31T10:00:00").stdout
    assert "made: below 2026-02-01 (1), 2026-03-31 10:00:00 and more (1)" in between


def test_hits_have_their_snippet_and_passages(filled: Run) -> None:
    found = filled("search", "refund", "--mode", "keyword", "--passages", "2")
    assert "\n1. Ticket 1, characters 0 to 38: 1.000\nRefund missing\nI was billed twice\nopen\n" in found.stdout
    (hit,) = json.loads(filled("search", "refund", "--mode", "keyword", "--passages", "2", "--json").stdout)["hits"]
    assert hit["passages"] == [
        {"text": "Refund missing\nI was billed twice\nopen", "start": 0, "end": 38, "score": 1.0}
    ]
    cut = {"is_cut_before": False, "is_cut_after": False}
    assert hit["snippet"] == {"text": "Refund missing I was billed twice open", "start": 0, "spans": [[0, 6]], **cut}
    (alike, *_) = json.loads(filled("similar", "Ticket", "1", "--json").stdout)["hits"]
    assert alike["snippet"]["text"]
    assert "passages" not in alike


def test_search_in_a_pipe_is_one_line_a_hit(filled: Run) -> None:
    done = filled("search", "refund", "--mode", "keyword")
    assert done.stdout == "1.000\tTicket\t1\tRefund missing I was billed twice\n"
    assert filled("search", "nosuchword", "--mode", "keyword").stderr == "no record matches\n"


def test_search_pages_sorts_and_counts(filled: Run) -> None:
    query = ("search", "refund parcel wages", "--mode", "keyword")
    ranked = hits(filled(*query, "--json"))
    first = filled(*query, "--limit", "1", "--json")
    following = filled(*query, "--limit", "1", "--cursor", json.loads(first.stdout)["cursor"], "--json")
    assert [*hits(first), *hits(following)] == ranked[:2]
    assert hits(filled(*query, "--offset", "1", "--json")) == ranked[1:]
    assert hits(filled(*query, "--sort=-stars", "--json")) == ["2", "1", "3"]
    counted = filled(*query, "--facet", "status", "--facet", "stars", "--count", "--limit", "1").stdout
    assert counted.endswith("status: open (2), closed (1)\nstars: 3 (1), 5 (1)\n3 in all\n")
    assert filled(*query, "--cursor", "mine", status=1).stderr.startswith(
        "Error: this is no cursor of a search: 'mine'"
    )


def test_similar_finds_the_nearest_others(filled: Run) -> None:
    filled("data", "insert", "Ticket", '{"id": "4", "subject": "Wages were not paid"}')
    assert hits(filled("similar", "Ticket", "4", "--limit", "1", "--json")) == ["3"]
    assert "'9' is not in the index" in filled("similar", "Ticket", "9", status=1).stderr


def test_explain_shows_each_leg(filled: Run) -> None:
    done = filled("search", "refund", "--explain", "--limit", "1")
    assert "keyword: 0.40 x 0.6250" in done.stdout
    assert "vector: 0.60 x" in done.stdout
    assert "model: static-en-256" in done.stdout
    found = json.loads(filled("search", "refund", "--explain", "--json").stdout)
    assert {leg["leg"] for leg in found["hits"][0]["explanation"]} == {"keyword", "vector"}
    assert found["plan"]["terms"] == ["refund"]


def test_hits_of_each_value_are_limited_and_diverse(filled: Run) -> None:
    rows = [{"id": f"x{n}", "subject": "Refund late", "status": "open"} for n in range(4)]
    filled("data", "insert", "Ticket", stdin="\n".join(map(json.dumps, rows)))
    query = ("search", "refund late", "--mode", "keyword", "--json")
    assert len(hits(filled(*query))) > 4
    limited = json.loads(filled(*query, "--limit-by", "status:1").stdout)
    statuses = [hit["data"]["status"] for hit in limited["hits"]]
    assert len(statuses) == len(set(statuses)) < limited["total"]
    diverse = filled(*query, "--diversity", ".9", "--limit", "2", "--explain")
    assert not set(hits(diverse)) <= {f"x{n}" for n in range(4)}
    assert json.loads(diverse.stdout)["hits"][1]["explanation"][-1]["leg"] == "diversity"
    assert "diversity: place 1 by relevance, which is 1.0000; at most 0.0000 like a hit before it" in (
        filled(*query[:-1], "--diversity", ".9", "--explain").stdout
    )
    for wrong in ("status", ":1", "status:", "status:-1"):
        error = filled("search", "refund", "--limit-by", wrong, status=2).stderr
        assert error.endswith(f"Error: --limit-by takes a field and a number of hits, such as brand:1, not '{wrong}'\n")
    assert "--diversity" in filled("search", "refund", "--diversity", "2", status=2).stderr


def test_records_are_read_changed_and_deleted(filled: Run) -> None:
    assert json.loads(filled("data", "get", "Ticket", "2").stdout) == TICKETS[1]
    assert filled("data", "update", "Ticket", "2", '{"body": "found at last"}').stdout == "updated Ticket 2\n"
    assert hits(filled("search", "found", "--mode", "keyword", "--json")) == ["2"]
    listed = filled("data", "list", "Ticket", "--where", '{"stars": {"$gte": 4}}')
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == ["2"]
    assert len(json.loads(filled("data", "list", "Ticket", "--json").stdout)) == 3
    several = filled("data", "get", "Ticket", "3", "9", "1", "8", status=1)
    assert [json.loads(line) for line in several.stdout.splitlines()] == [TICKETS[2], TICKETS[0]]
    assert several.stderr == "Error: Ticket has no record '9', '8'\n"
    assert [each["id"] for each in json.loads(filled("--json", "data", "get", "Ticket", "3", "1").stdout)] == ["3", "1"]
    ordered = filled("data", "list", "Ticket", "--sort=-stars,subject", "--limit", "2").stdout.splitlines()
    assert [json.loads(line)["id"] for line in ordered] == ["2", "1"]
    assert filled("data", "count", "Ticket").stdout == "3\n"
    counted = filled("data", "count", "Ticket", "--where", '{"stars": {"$gte": 4}}', "--json")
    assert json.loads(counted.stdout) == {"count": 1}
    assert filled("data", "delete", "Ticket", "2", "9").stdout == "deleted 1 of 2\n"
    assert filled("data", "get", "Ticket", "2", status=1).stderr == "Error: Ticket has no record '2'\n"


def test_an_entity_is_declared_twice_if_that_is_wanted(run: Run) -> None:
    declare = "entity", "create", "Draft", "--search", "title:2", "--field", "n:integer"
    assert run(*declare).stdout == "made entity Draft, searchable: title\n"
    assert "exists already" in run(*declare, status=1).stderr
    assert run(*declare, "--exist-ok").stdout == "declared entity Draft, searchable: title\n"
    other = run(*declare[:3], "--search", "title", "--exist-ok", status=1).stderr
    assert "is another: its field 'title' is any and searched as Field(weight=2" in other


def test_records_of_tenants_are_inserted_read_moved_and_deleted(run: Run) -> None:
    lines = "".join(json.dumps({"id": "1", "org": org, "text": f"lamp of {org}"}) + "\n" for org in "ab")
    run("data", "insert", "Order", "--tenant-field", "org", stdin=lines)
    assert json.loads(run("entity", "describe", "Order", "--json").stdout)["tenant_field"] == "org"
    assert "tenant" in run("entity", "describe", "Order").stdout
    assert json.loads(run("data", "get", "Order", "1", "--tenant", "b").stdout)["text"] == "lamp of b"
    assert "Order has tenants" in run("data", "get", "Order", "1", status=1).stderr
    assert "exclude each other" in run("data", "list", "Order", "--tenant", "a", "--all-tenants", status=2).stderr
    run("data", "insert", "Order", '{"id": "2", "text": "chair"}', "--tenant", "a")
    assert len(run("data", "list", "Order", "--tenant", "a").stdout.splitlines()) == 2
    assert len(run("data", "list", "Order", "--all-tenants").stdout.splitlines()) == 3
    refused = run("data", "insert", "Order", '{"id": "3", "text": "bed"}', status=1).stderr
    assert "Order '3' has no field 'org', which names its tenant" in refused
    run("data", "update", "Order", "1", '{"org": "c"}', "--tenant", "b")
    assert json.loads(run("data", "get", "Order", "1", "--tenant", "c").stdout)["org"] == "c"
    assert run("data", "delete", "Order", "1", "2", "--tenant", "a").stdout == "deleted 2 of 2\n"
    assert run("data", "list", "Order", "--tenant", "b").stdout == ""
    assert run("embeddings", "sync", "--tenant", "c").stdout == "0 embedded, 0 failed, 0 pending\n"
    assert run("doctor", "--tenant", "c", "--tenant", "a").stdout == "nothing found\n"
    run("entity", "create", "Task", "--search", "text", "--tenant-field", "")
    assert "Task has tenants" in run("data", "insert", "Task", '{"text": "do"}', status=1).stderr


def test_entities_are_declared_listed_and_described(run: Run) -> None:
    run("entity", "create", "T", "--search", "title", "--field", "n:integer")
    assert run("entity", "list").stdout == "T\ttitle\t\n"  # and no boosts
    assert run("entity", "describe", "T").stdout == "title\tany\tsearchable\nn\tinteger\t\n"
    assert json.loads(run("entity", "describe", "T", "--json").stdout)["fields"][1]["type"] == "integer"
    failed = run("data", "insert", "T", '{"title": "x", "n": "three"}', status=1)
    assert "argument:1: field 'n' is declared integer" in failed.stderr
    assert "Known: T" in run("data", "insert", "U", '{"a": "b"}', "--no-create", status=1).stderr


def test_status_and_sync(filled: Run) -> None:
    done = filled("embeddings", "status")
    assert done.stdout.startswith(
        "active: static static-en-256, 256 dimensions (generation 1), vector index: exact\nTicket\t3\t0\t0\t"
    )
    assert filled("embeddings", "sync").stdout == "0 embedded, 0 failed, 0 pending\n"
    filled("data", "insert", "Ticket", '{"id": "9", "subject": "🦊🦊 🦊"}')
    (failure,) = json.loads(filled("embeddings", "status", "--failed", "--json").stdout)
    assert (failure["id"], failure["reason"], failure["attempts"]) == ("9", "embed_failed", 1)
    assert filled("embeddings", "sync", "--retry-failed").stdout == "0 embedded, 1 failed, 0 pending\n"
    assert json.loads(filled("embeddings", "status", "--failed", "--json").stdout)[0]["attempts"] == 2


def test_the_cache_is_shown_and_cleared(filled: Run) -> None:
    assert filled("embeddings", "cache", "status").stdout == ""
    assert json.loads(filled("embeddings", "cache", "status", "--json").stdout) == []
    assert filled("embeddings", "cache", "clear").stdout == "cleared 0 texts\n"
    assert json.loads(filled("embeddings", "cache", "clear", "--older-than", "30d", "--json").stdout) == {"cleared": 0}
    assert "such as 30d" in filled("embeddings", "cache", "clear", "--older-than", "soon", status=2).stderr
    totals = json.loads(filled("embeddings", "status", "--json").stdout)["totals"]
    assert totals == {"indexed": 3, "pending": 0, "failed": 0, "unindexed": 0, "cached": 0}


BAD = [
    ("{oops}", "not JSON"),
    ("[1]", "not an object but a list"),
    ('{"id": true, "a": "b"}', "a record id is text or a whole number"),
    ('{"a\\u0000": "b"}', "a field's name holds a NUL"),
    ('{"a": "\\ud800"}', "a: a lone surrogate"),
    ('{"a": ' + "[" * 70 + "]" * 70 + "}", "a is nested more than 64 deep"),
    ('{"a": "' + "x" * 3000 + '"}', "over 2,000 bytes (--max-record-bytes)"),
    (json.dumps(TICKETS[0]), "Ticket has a record '1' already"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_line_stops_with_its_place_and_the_way_on(run: Run, tmp_path: Path, bad: str, reason: str) -> None:
    (tmp_path / "in.jsonl").write_text(lines(TICKETS[:2]) + bad + "\n" + lines(TICKETS[2:]))
    options = ("--max-record-bytes", "2000")
    failed = run("data", "insert", "Ticket", "--from-file", "in.jsonl", *options, status=1)
    message = failed.stderr.splitlines()[-1]
    assert message.startswith(f"Error: in.jsonl:3: {reason}")
    more = " --on-conflict ignore" if "already" in reason else ""
    command = f"kameleon data insert Ticket --from-file in.jsonl --max-record-bytes 2000{more} --from-line 3"
    assert message.endswith(f"Stored so far: 2 records. Continue with: {command}")
    (tmp_path / "in.jsonl").write_text("".join([lines(TICKETS[:2]), "\n", lines(TICKETS[2:])]))
    run(*command.split()[1:])
    assert len(run("data", "list", "Ticket").stdout.splitlines()) == 3


def test_another_field_may_be_the_key(run: Run) -> None:
    beir = {"_id": "MED-10", "title": "Statins", "text": "Recent studies of statins", "metadata": {}}
    assert "A: 1 inserted" in run("data", "insert", "A", "--id-field", "_id", stdin=lines([beir])).stdout
    assert json.loads(run("data", "get", "A", "MED-10", "--json").stdout)["title"] == "Statins"
    for bad, reason in (({"a": 1}, "no '_id', which --id-field names; it has a"), ({**beir, "id": 1}, "beside '_id'")):
        assert reason in run("data", "insert", "A", "--id-field", "_id", stdin=lines([bad]), status=1).stderr


def test_skip_invalid_goes_on_and_keeps_the_bad_lines(run: Run, tmp_path: Path) -> None:
    bad = [line for line, _ in BAD]
    text = lines(TICKETS[:1]) + "\n".join(bad) + "\n" + lines(TICKETS[1:])
    done = run(
        *(
            "data",
            "insert",
            "Ticket",
            "--skip-invalid",
            "--rejects",
            "bad.jsonl",
            "--max-record-bytes",
            "2000",
            "--json",
        ),
        stdin=text,
    )
    assert json.loads(done.stdout)["inserted"] == 3
    assert json.loads(done.stdout)["rejected"] == len(bad)
    assert done.stderr.count("skipped stdin:") == len(bad)
    assert (tmp_path / "bad.jsonl").read_text() == "\n".join(bad) + "\n"


def test_atomic_is_all_or_nothing(run: Run) -> None:
    failed = run("data", "insert", "Ticket", "--atomic", "--batch-size", "1", stdin=lines(TICKETS) + "oops\n", status=1)
    assert "Nothing was stored (--atomic)" in failed.stderr
    assert run("entity", "list").stdout == ""
    run("data", "insert", "Ticket", "--atomic", "--batch-size", "1", stdin=lines(TICKETS))
    assert hits(run("search", "refund", "--mode", "keyword", "--json")) == ["1"]


def test_skip_existing_and_upsert(filled: Run) -> None:
    new = [{"id": "1", "subject": "Changed words"}, {"id": "4", "subject": "Fourth one"}]
    done = filled("data", "insert", "Ticket", "--on-conflict", "ignore", "--json", stdin=lines(new))
    assert (json.loads(done.stdout)["inserted"], json.loads(done.stdout)["skipped"]) == (1, 1)
    done = filled("data", "insert", "Ticket", "--on-conflict", "replace", "--json", stdin=lines(new))
    assert (json.loads(done.stdout)["inserted"], json.loads(done.stdout)["updated"]) == (0, 2)
    assert hits(filled("search", "changed", "--mode", "keyword", "--json")) == ["1"]


def test_ctrl_c_ends_between_batches_and_prints_how_to_continue(console_script: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "in.jsonl").write_text(lines([{"id": n, "text": f"some words {n}"} for n in range(1, 3001)]))
    arguments = ["-d", "sqlite:///x.db", "data", "insert", "T", "--batch-size", "2", "--from-file", "in.jsonl"]
    process = subprocess.Popen([console_script, *arguments], stderr=subprocess.PIPE, cwd=tmp_path)
    try:
        while not stored(console_script, tmp_path):
            pass
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    printed = re.search(r"Stored so far: (\d+) records\. Continue with: kameleon (.*)$", err.decode())
    assert printed
    count = int(printed[1])
    assert 0 < count < 3000
    assert printed[2] == " ".join([*arguments, "--from-line", str(count + 1)])
    done = json.loads(run("--json", *printed[2].split(), "--batch-size", "1000").stdout)
    assert done["inserted"] == 3000 - count


def test_ctrl_c_ends_a_run_that_waits_for_input(console_script: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [console_script, "-d", "sqlite:///x.db", "data", "insert", "T", "--batch-size", "2"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(lines([{"id": n, "text": "some words"} for n in range(1, 4)]).encode())
        process.stdin.flush()
        while "2" not in stored(console_script, tmp_path):
            pass
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Stored so far: 2 records" in err.decode()
    assert "--from-line 3 < INPUT" in err.decode()


def stored(console_script: str, folder: Path) -> str:
    """The ids in the store so far, once there is one."""
    listed = subprocess.run(
        [console_script, "-d", "sqlite:///x.db", "data", "list", "T"], capture_output=True, cwd=folder, check=False
    )
    return listed.stdout.decode()


def test_a_terminal_gets_a_table_with_the_words_marked(filled: Run, console_script: str, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": ""}
    environment.pop("NO_COLOR")
    process = subprocess.Popen(
        [console_script, "search", "refund", "--mode", "keyword"], stdout=theirs, cwd=tmp_path, env=environment
    )
    os.close(theirs)
    chunks: list[bytes] = []

    def drain() -> None:
        try:
            while chunk := os.read(ours, 4096):
                chunks.append(chunk)
        except OSError:  # the other end closed: a terminal reports that as EIO
            return

    reader = threading.Thread(target=drain)
    reader.start()
    assert process.wait(60) == 0
    reader.join()
    os.close(ours)
    shown = b"".join(chunks).decode()
    assert "score" in shown
    assert "\x1b[1;33mRefund\x1b[0m" in shown


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("search", "x"), 1, "Error: no database at kameleon.db."),
        (("-d", "nonsense", "search", "x"), 1, "Error: no database can be opened as 'nonsense'"),
        (("search", "x", "--where", "{"), 2, "--where is not JSON"),
        (("search", "x", "--where", "[]"), 2, "--where is a JSON object"),
        (("search", "x", "--limit", "0"), 2, "--limit"),
        (("data", "insert", "T", "--on-conflict", "upsert"), 2, "is not one of"),
        (("entity", "create", "T", "--search", "a", "--field", "n"), 2, "--field is NAME:TYPE"),
        (("nonsense",), 2, "No such command"),
        (("-d", "mysql://h/x", "entity", "list"), 1, "Error: no database can be opened as 'mysql://h/x'"),
        (("-d", "sqlite:///:memory:", "entity", "list"), 1, "tables are not in this database"),
        (("search", "x", "--limit", "9" * 20), 2, "--limit"),
        (("data", "insert", "T", "{oops}"), 1, "Error: argument:1: not JSON"),
        (("data", "insert", "T", "[1, {}] x"), 1, "Error: argument:1: not an object"),
        (("data", "insert", "T", '{"a": 1' + "0" * 5000 + "}"), 1, "Error: argument:1: "),
        (("data", "update", "T", "1", "[" * 100_000), 2, "JSON is not JSON"),
    ],
)
def test_wrong_usage_is_one_clear_line(run: Run, arguments: tuple[str, ...], status: int, message: str) -> None:
    failed = run(*arguments, status=status)
    assert message in failed.stderr
    assert "INPUT" not in failed.stderr
    assert failed.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "x", "-e", "Tickt"), "Error: unknown entity 'Tickt'. Known: Ticket"),
        (
            ("search", "x", "--where", '{"colour": 1}'),
            "Error: unknown field 'colour'. Known: body, stars, status, subject",
        ),
        (("data", "get", "Tickt", "1"), "Error: unknown entity 'Tickt'. Known: Ticket"),
        (("entity", "describe", "X"), "Error: unknown entity 'X'. Known: Ticket"),
        (("entity", "create", "Ticket", "--search", "a"), "Error: entity 'Ticket' exists already"),
    ],
)
def test_a_missing_entity_or_field_lists_the_existing_ones(
    filled: Run, arguments: tuple[str, ...], message: str
) -> None:
    failed = filled(*arguments, status=1)
    assert failed.stderr.startswith(message)
    assert failed.stderr.count("\n") == 1


def test_a_foreign_database_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "kameleon.db").write_bytes(b"this is no database" * 100)
    assert "not a database" in run("search", "x", status=1).stderr
    (tmp_path / "kameleon.db").write_bytes(b"")
    assert "kameleon's tables are not in this database" in run("search", "x", status=1).stderr


def test_the_database_comes_from_the_option_or_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console_script: str
) -> None:
    run("data", "insert", "T", '{"a": "b c"}', "--database", f"sqlite:///{tmp_path}/one.db")
    environment = {**os.environ, "KAMELEON_URL": f"sqlite:///{tmp_path}/one.db"}
    done = subprocess.run([console_script, "entity", "list"], capture_output=True, env=environment, check=True)
    assert done.stdout == b"T\ta\t\n"
    assert not (tmp_path / "kameleon.db").exists()


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(path, command)]
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        found += every_command(inner, (*path, name))
    return found


@pytest.mark.parametrize(
    ("path", "command"), every_command(root), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_help(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help, path


def test_every_command_works_on_postgresql(run: Run, pg_url: URL) -> None:
    url = pg_url.set(drivername="postgresql").render_as_string(hide_password=False)

    def on_server(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return run(*arguments, KAMELEON_URL=url, **more)

    on_server("search", "refund", status=1)
    on_server("data", "insert", "Ticket", "--batch-size", "2", stdin=lines(TICKETS))
    assert hits(on_server("search", "refund", "--json", "--where", '{"status": "open"}'))[0] == "1"
    assert hits(on_server("search", "#12345", "--mode", "keyword", "--json", "--explain")) == ["2"]
    assert json.loads(on_server("data", "get", "Ticket", "3", "--json").stdout)["subject"] == "Wages overdue"
    on_server("data", "update", "Ticket", "3", '{"status": "closed"}')
    listed = on_server("data", "list", "Ticket", "--where", '{"status": "closed"}').stdout.splitlines()
    assert [json.loads(line)["id"] for line in listed] == ["2", "3"]
    on_server("data", "delete", "Ticket", "2")
    assert on_server("entity", "list").stdout.startswith("Ticket")
    assert "vector index: exact" in on_server("embeddings", "status").stdout
    status = json.loads(on_server("embeddings", "status", "--json").stdout)
    assert status["totals"] == {"indexed": 2, "pending": 0, "failed": 0, "unindexed": 0, "cached": 0}
    assert on_server("embeddings", "sync").stdout == "0 embedded, 0 failed, 0 pending\n"
    on_server("embeddings", "cache", "clear")
    assert "has no Citus" in on_server("distribute", "--by", "record_id", status=1).stderr
    assert "--by" in on_server("distribute", "--by", "entity", status=2).stderr


def test_an_atomic_insert_on_postgresql_stores_all_or_nothing(run: Run, pg_url: URL) -> None:
    url = pg_url.render_as_string(hide_password=False)
    run("-d", url, "entity", "create", "Ticket", "--search", "subject", "--field", "stars:integer")
    bad = lines([*TICKETS, {"id": "4", "subject": "x", "stars": "many"}])
    stopped = run("-d", url, "data", "insert", "Ticket", "--atomic", "--batch-size", "1", stdin=bad, status=1)
    assert "Nothing was stored (--atomic)" in stopped.stderr
    assert run("-d", url, "data", "list", "Ticket").stdout == ""
    run("-d", url, "data", "insert", "Ticket", "--atomic", "--batch-size", "1", stdin=lines(TICKETS))
    assert len(run("-d", url, "data", "list", "Ticket").stdout.splitlines()) == 3


def test_schema_and_language_come_from_the_environment(run: Run, pg_url: URL, schema: str) -> None:
    url = pg_url.render_as_string(hide_password=False)
    chosen = {"KAMELEON_URL": url, "KAMELEON_SCHEMA": f"{schema}_index", "KAMELEON_LANGUAGE": "simple"}
    run("data", "insert", "Ticket", stdin=lines([{"id": "1", "subject": "the who"}]), **chosen)
    assert hits(run("search", "the", "--mode", "keyword", "--json", **chosen)) == ["1"]
    assert "reads texts as 'simple'" in run("search", "x", **{**chosen, "KAMELEON_LANGUAGE": "german"}, status=1).stderr
    assert "klingon" in run("data", "insert", "T", "{}", **{**chosen, "KAMELEON_LANGUAGE": "klingon"}, status=1).stderr
    with sqlalchemy.create_engine(pg_url, poolclass=sqlalchemy.NullPool).begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {schema}_index CASCADE")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", "127.0.0.1"),
        ("postgresql://nobody:secret@no-such-host.invalid/none", "no-such-host.invalid"),
    ],
)
def test_an_unreachable_server_is_one_line(run: Run, url: str, message: str) -> None:
    stderr = run("-d", url, "search", "x", status=1).stderr
    assert message in stderr
    assert "secret" not in stderr
    assert len(stderr.strip().splitlines()) == 1


def test_a_typo_is_reported_and_a_prefix_completed(filled: Run) -> None:
    done = filled("search", "refnud", "--mode", "keyword")
    assert "Refund missing" in done.stdout
    assert done.stderr == 'showing results for refund (no record has "refnud")\n'
    assert json.loads(filled("--json", "search", "refnud").stdout)["corrections"] == {"refnud": "refund"}
    assert filled("suggest", "my pay").stdout == "my payroll\n"
    assert json.loads(filled("--json", "suggest", "Pa", "--limit", "2").stdout)["suggestions"] == ["parcel", "payroll"]
    assert hits(filled("--json", "search", "stars:3 -missing late", "--mode", "keyword")) == []


def test_an_entity_is_updated_renamed_and_deleted(run: Run) -> None:
    run("entity", "create", "Book", "--search", "a:b:2", "--search", "title:3")
    rows = [{"id": n, "title": "Old house", "blurb": f"<b>storm</b> {n}", "code": f"QX-{n}"} for n in (1, 2)]
    done = run("data", "insert", "Book", stdin=lines(rows))
    advice = "kameleon entity update Book --search blurb --search code"
    assert f"Texts in blurb, code are not searched. To change that: {advice}" in done.stderr
    assert json.loads(run("data", "insert", "Book", "--on-conflict", "ignore", "--json", stdin=lines(rows)).stdout)[
        "unsearched"
    ] == ["blurb", "code"]
    run("entity", "update", "Book", "--search", "blurb:html", "--search", "code:keyword", "--unsearch", "a:b")
    assert hits(run("search", "storm", "--mode", "keyword", "--json")) == ["1", "2"]
    described = run("entity", "describe", "Book").stdout.splitlines()
    assert described[1:] == [
        "title\tany\tsearchable, weight 3",
        "blurb\tany\tsearchable, html",
        "code\tany\tsearchable, by keyword alone",
    ]
    assert "unknown entity 'None'" in run("entity", "update", "None", "--search", "x", status=1).stderr
    assert run("entity", "rename", "Book", "Novel").stdout == "renamed Book to Novel\n"
    assert "[y/N]: Interrupted" in run("entity", "delete", "Novel", status=130).stderr
    assert run("entity", "delete", "Novel", "--no-confirm").stdout == "deleted Novel: 2 records\n"
    assert run("entity", "list").stdout == ""


def test_records_are_updated_and_deleted_by_a_condition(filled: Run) -> None:
    where = ("--where", '{"status": "open"}')
    assert filled("data", "update", "Ticket", '{"status": "solved"}', *where).stdout == "updated 2 of Ticket\n"
    assert filled("data", "update", "Ticket", "1", "{}", *where, status=2).stderr
    assert "give IDs or --where" in filled("data", "delete", "Ticket", status=2).stderr
    solved = ("data", "delete", "Ticket", "--where", '{"status": "solved"}')
    assert "[y/N]: Interrupted" in filled(*solved, status=130).stderr
    assert filled(*solved, "--no-confirm").stdout == "deleted 2 of Ticket\n"
    merged = filled("data", "insert", "Ticket", '{"id": "2", "n": 1}', "--on-conflict", "merge", "--json").stdout
    assert json.loads(merged)["updated"] == 1
    oid = '{"_id": {"$oid": "66f"}, "subject": "A parcel"}'
    filled("data", "insert", "Ticket", oid, "--id-field", "_id")
    assert json.loads(filled("data", "get", "Ticket", "66f").stdout)["subject"] == "A parcel"
