"""How long the command takes from a new process to its answer."""

import statistics
import tempfile
from pathlib import Path

from .corpus import documents, write_lines
from .database import address, database
from .report import Arguments, Figures, run_command

TRIES = 7


def run(args: Arguments) -> Figures:
    with tempfile.TemporaryDirectory() as folder, database(args.backend) as engine:
        source = Path(folder) / "records.jsonl"
        write_lines(source, documents(args.rows, args.seed))
        url = address(engine)
        run_command("-d", url, "data", "insert", "Record", "--from-file", str(source), "--batch-size", "1000")
        return {
            "rows": args.rows,
            "help_s": median("--help"),
            "keyword_search_s": median("-d", url, "search", "love story", "--mode", "keyword"),
            "hybrid_search_s": median("-d", url, "search", "love story"),
        }


def median(*arguments: str) -> float:
    return round(statistics.median(run_command(*arguments)[1] for _ in range(TRIES)), 3)
