"""The output and the pictures of `python -m stress`."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from stress.__main__ import main
from stress.corpus import documents, generated_words
from stress.drawing import Scale, bar_charts, line_chart
from stress.plot import plot
from stress.report import latencies

EXPECTED = {"versions", "cores", "seed", "date", "peak_mb", "run", "backend"}


def measured(run: str, backend: str, rows: int, **figures: Any) -> str:
    return json.dumps({"run": run, "backend": backend, "rows": rows, **figures}) + "\n"


def heights(picture: str) -> list[float]:
    """Of the dots, in the order of the file."""
    circles = ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}circle")  # noqa: S314 - our own
    return [float(circle.attrib["cy"]) for circle in circles]


def test_a_run_prints_one_line_with_what_it_was_measured_on() -> None:
    done = CliRunner().invoke(main, ["sessions", "--backend", "sqlite", "--rows", "50", "--seed", "3", "--json"])
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result.keys() >= EXPECTED
    assert (result["run"], result["backend"], result["seed"], result["steps"]) == ("sessions", "sqlite", 3, 50)
    assert result["versions"].keys() >= {"python", "kameleon", "sqlalchemy", "sqlite"}


@pytest.mark.parametrize("arguments", [["nothing"], ["insert", "--rows", "0"], ["insert", "--backend", "oracle"]])
def test_what_cannot_be_run_is_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_percentiles_are_those_of_the_calls() -> None:
    found = latencies([float(n) for n in range(101)])
    assert found == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}


def test_a_seed_is_a_corpus() -> None:
    assert generated_words(500, 1) == generated_words(500, 1)
    assert generated_words(500, 1) != generated_words(500, 2)
    assert [found["id"] for found in documents(3, 1)] == ["0", "1", "2"]


def test_the_last_line_of_a_run_is_drawn(tmp_path: Path) -> None:
    lines = tmp_path / "measured.jsonl"
    by_hand = {"p50_ms": 1.0, "p95_ms": 40.0, "ours_alternating": {"p50_ms": 1.0, "p95_ms": 9.0}}
    lines.write_text(
        measured("search", "sqlite", 1_000, p50_ms=1.0, p95_ms=90.0, by_hand=by_hand)
        + measured("search", "sqlite", 10_000, p50_ms=2.0, p95_ms=20.0, by_hand=by_hand)
        + measured("search", "sqlite", 1_000, p50_ms=1.0, p95_ms=9.0, by_hand=by_hand)
        + measured("insert", "sqlite", 10, batch_sizes={"1": {"rows_per_second": 5, "by_hand_rows_per_second": 9}})
    )
    assert [path.name for path in plot(lines, tmp_path / "drawn")] == ["throughput.svg", "latency.svg"]
    assert len(heights((tmp_path / "drawn" / "latency.svg").read_text())) == 4
    assert "SQLite by hand" in (tmp_path / "drawn" / "throughput.svg").read_text()


def test_a_line_that_no_run_printed_is_named(tmp_path: Path) -> None:
    lines = tmp_path / "measured.jsonl"
    lines.write_text(measured("search", "sqlite", 1, p50_ms=1.0, p95_ms=9.0) + "search on sqlite\n")
    with pytest.raises(ValueError, match=r"measured\.jsonl:2 is not a line that a run printed with --json"):
        plot(lines, tmp_path)


def test_a_picture_has_its_highest_figure_highest() -> None:
    first, second, third = heights(line_chart("t", "x", "y", {"a & b": [(1, 10), (10, 1000), (100, 100)]}, log_y=True))
    assert second < third < first
    assert third == pytest.approx((first + second) / 2)


def test_a_scale_by_powers_marks_them() -> None:
    assert Scale(1, 1000, 0, 300, is_log=True).marks() == [1, 10, 100, 1000]
    assert Scale(1, 1000, 0, 300, is_log=True)(10) == pytest.approx(100)
    assert Scale(0, 10, 0, 100, is_log=False)(2.5) == 25


def test_bars_are_as_long_as_their_figures() -> None:
    picture = ElementTree.fromstring(bar_charts("t", {"s": {"ours": 1.0, "theirs": 4.0}}))  # noqa: S314 - our own
    bars = [one for one in picture.iter("{http://www.w3.org/2000/svg}rect") if one.get("class", "").startswith("f")]
    ours, theirs = (float(bar.attrib["width"]) for bar in bars)
    assert theirs == pytest.approx(4 * ours)
