"""`make demo`: load the sample tickets with the kameleon command and show what hybrid search gives."""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
KAMELEON = Path(sys.executable).with_name("kameleon")
DATABASE = "sqlite:///demo.db"

SEARCHES = [
    ("a word, in any of its forms", ["search", "webhook", "--limit", "2"]),
    ("a meaning: no ticket holds any of these words", ["search", "wages overdue", "--limit", "1"]),
    ("an exact code, symbols and all", ["search", '"order #12345"']),
    (
        "a filter, inside both legs",
        ["search", "fire hazard", "--where", '{"status": "open", "priority": "urgent"}', "--limit", "3"],
    ),
]

NEXT = [
    ["search", "noisy drivetrain", "--explain"],
    ["search", "C++"],
    ["data", "get", "Ticket", "T-1099"],
    ["data", "insert", "Ticket", '{"id": "T-2000", "subject": "My first ticket", "body": "searchable at once"}'],
    ["embeddings", "status"],
]

MUSEUM = [
    ["table", "add", "artwork", "--text", "title:2", "--text", "description", "--join", "artist.name"],
    ["search", "shipwreck", "--limit", "2"],
]


def run(arguments: list[str]) -> None:
    subprocess.run([str(KAMELEON), "--database", DATABASE, *arguments], check=True, cwd=ROOT)


def main() -> None:
    for leftover in ROOT.glob("demo.db*"):
        leftover.unlink()
    show(f"170 support tickets into {DATABASE}", ["data", "insert", "Ticket", "--from-file", "examples/tickets.jsonl"])
    for title, arguments in SEARCHES:
        show(title, arguments)
    sys.stdout.write("\nThe database stays for you to play with. Try:\n\n")
    for arguments in NEXT:
        sys.stdout.write(f"  .venv/bin/kameleon -d {DATABASE} {shlex.join(arguments)}\n")
    sys.stdout.write("\nOr search a database that no ORM made, where it is:\n\n")
    sys.stdout.write("  sqlite3 museum.db < examples/museum.sql\n")
    for arguments in MUSEUM:
        sys.stdout.write(f"  .venv/bin/kameleon -d sqlite:///museum.db {shlex.join(arguments)}\n")


def show(title: str, arguments: list[str]) -> None:
    sys.stdout.write(f"\n{title}\n$ kameleon {shlex.join(arguments)}\n")
    sys.stdout.flush()
    run(arguments)


if __name__ == "__main__":
    main()
