"""Real records where they are beside the project, else text with a natural distribution of words."""

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[2] / "shared"
MINILM = SHARED / "models" / "all-MiniLM-L6-v2"
RECORDS = SHARED / "data" / "records"
WORDS_A_PASSAGE = 35


def record_file(name: str) -> Path | None:
    path = RECORDS / f"{name}.jsonl.gz"
    return path if path.is_file() else None


def records(name: str) -> Iterator[dict[str, Any]]:
    path = record_file(name)
    if path is None:
        return
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def documents(rows: int, seed: int) -> Iterator[dict[str, str]]:
    """`rows` records of id, title and text: films and their extracts (320 characters on average), again from the first
    when they are used up, or generated."""
    films = [(film["title"], film["extract"]) for film in records("wikipedia_movies") if film["extract"]]
    if not films:
        films = [(" ".join(text.split()[:3]), text) for text in passages(rows, seed)]
    for number, (title, text) in enumerate(islice(cycle(films), rows)):
        yield {"id": str(number), "title": title, "text": text}


def write_lines(path: Path, found: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in found)


def passages(rows: int, seed: int) -> list[str]:
    """`rows` passages of 35 words: of film extracts and definitions, or generated."""
    words = [word for record in records("wikipedia_movies") for word in record["extract"].split()]
    if not words:
        words = generated_words(rows * WORDS_A_PASSAGE, seed)
    need = rows * WORDS_A_PASSAGE
    words = (words * (need // len(words) + 1))[:need]
    made = [" ".join(words[n * WORDS_A_PASSAGE : (n + 1) * WORDS_A_PASSAGE]) for n in range(rows)]
    random.Random(seed).shuffle(made)
    return made


def generated_words(count: int, seed: int) -> list[str]:
    """Words of one to four syllables, the r-th commonest 1/r as frequent as the first (Zipf)."""
    chance = random.Random(seed)
    syllables = [c + v for c in "bcdfghklmnprstvw" for v in "aeiou"]
    vocabulary = sorted({"".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(30_000)})
    chance.shuffle(vocabulary)
    return chance.choices(vocabulary, [1 / rank for rank in range(1, len(vocabulary) + 1)], k=count)
