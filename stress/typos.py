"""Which words a search corrects: right ones that records lack, and misspelt ones that they have; and what corrections
do to judged rankings."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from kameleon import RecordStore, SearchEngine
from kameleon.analysis.analyser import analyser
from kameleon.embeddings.static import BUNDLED
from kameleon.metrics import ndcg
from kameleon.values import QueryPlan

from .corpus import SHARED, records
from .database import database
from .quality import read
from .report import Arguments, Figures, latencies, stopwatch

TICKETS = Path(__file__).parents[1] / "examples" / "tickets.jsonl"
JUDGED = ("medline", "cisi", "npl", "liveqa_med", "xquad_en")
PLAIN_WORDS, TYPOS = 8_000, 588
SHORTEST = 5
"""Letters of a word that is misspelt."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOP = 10


def run(args: Arguments) -> Figures:
    took: list[float] = []
    with database(args.backend) as engine:
        search = SearchEngine(engine, "static")
        rows = [json.loads(text) for text in TICKETS.read_text("utf-8").splitlines()]
        RecordStore(search).insert("Ticket", rows)
        figures = {
            "rows": len(rows),
            "plain_words": corrected(search, plain_words()),
            "rarer_words": corrected(search, rarer_words()),
            "typos": put_right(search, rows, args.seed, took),
        }
    return {**figures, **latencies(took), "ndcg_at_10": dict(judged(args))}


def plain_words() -> list[str]:
    """The commonest words of letters alone in the bundled model's vocabulary, which is in about that order."""
    return [token for token in vocabulary() if re.fullmatch("[a-z]{3,}", token)][:PLAIN_WORDS]


def vocabulary() -> list[str]:
    tokens: Mapping[str, int] = json.loads((BUNDLED / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    return sorted(tokens, key=tokens.__getitem__)


def rarer_words() -> list[str]:
    """Lower-case words that the extracts of films have five times and the bundled model's vocabulary has not."""
    counted: Counter[str] = Counter()
    for film in records("wikipedia_movies"):
        counted.update(re.findall(r"(?<![A-Za-z])[a-z]{4,}(?![A-Za-z])", film["extract"] or ""))
    whole = set(vocabulary())
    return [word for word, times in counted.items() if times >= 5 and word not in whole]


def corrected(search: SearchEngine, words: Iterable[str]) -> Figures:
    """How many of the words no record has, and how many of these a search corrects."""
    plans = {word: plan_of(search, word) for word in words}
    lacking = [word for word, plan in plans.items() if word not in plan.terms]
    return {"lacking": len(lacking), "corrected": sum(word in plans[word].corrections for word in lacking)}


def put_right(search: SearchEngine, rows: Iterable[Mapping[str, Any]], seed: int, took: list[float]) -> Figures:
    """Of random typos in words of records, which no record has, how many are corrected to the word, or to another."""
    words = sorted({word for row in rows for word in long_words(f"{row['subject']} {row['body']}")})
    chance, term = random.Random(seed), term_of()
    figures = Counter[str]()
    while figures.total() < TYPOS:
        word = chance.choice(words)
        typed = misspelt(word, chance)
        if typed == word or typed in words:
            continue
        with stopwatch() as watch:
            plan = plan_of(search, typed)
        if typed in plan.terms:
            continue
        took.append(1000 * watch.seconds)
        taken = plan.corrections.get(typed)
        figures["put_right" if taken and term(taken) == term(word) else "another_word" if taken else "left"] += 1
    return dict(figures)


def plan_of(search: SearchEngine, word: str) -> QueryPlan:
    return search.search(word, mode="keyword", limit=1).plan


def long_words(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W\d_]+", text.lower()) if len(word) >= SHORTEST]


def term_of() -> Callable[[str], str]:
    query_terms = analyser("english").query_terms
    return lambda word: query_terms(word)[0].terms[0]


def misspelt(word: str, chance: random.Random) -> str:
    """The word with a letter changed, added, left out, or swapped with the next."""
    at, letter = chance.randrange(len(word) - 1), chance.choice(LETTERS)
    ways = [letter + word[at + 1 :], letter + word[at:], word[at + 1 :], word[at + 1] + word[at] + word[at + 2 :]]
    return word[:at] + chance.choice(ways)


def judged(args: Arguments) -> Iterator[tuple[str, Figures]]:
    """Of each collection, by keywords and hybrid, with the queries as they are and with a typo in each."""
    for name in JUDGED:
        folder = SHARED / "data" / "ir" / name
        if not folder.is_dir():
            continue
        documents, queries, relevance = read(folder)
        chance = random.Random(args.seed)
        typed = {key: with_typo(text, chance) for key, text in queries.items() if key in relevance}
        with database(args.backend) as engine:
            search = SearchEngine(engine, "static")
            search.index_records_batch(documents)
            yield (
                name,
                {
                    f"{mode}_{label}": round(
                        mean(
                            ndcg([hit.id for hit in search.search(asked[key], mode=mode, limit=TOP)], relevance[key])
                            for key in typed
                        ),
                        4,
                    )
                    for mode in ("keyword", "hybrid")
                    for label, asked in (("as_is", queries), ("misspelt", typed))
                },
            )


def with_typo(text: str, chance: random.Random) -> str:
    """A text with one of its long words misspelt."""
    words = long_words(text)
    if not words:
        return text
    word = chance.choice(words)
    return re.sub(rf"\b{word}\b", misspelt(word, chance), text, count=1, flags=re.IGNORECASE)
