"""Finds records of the record store by their own ids, typed as words of a query. Imports `stores`."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

import numpy as np

from ..stores.bm25 import K1, idf
from .looking_up import Found
from .packing import Array
from .parts import ABSENT, Head, Part
from .scoring import Ranking

MOST_IDS = 8
"""Bounds the words of a query that are looked up as ids, the first ones. Chosen, not measured."""
LONGEST_ID = 256
"""Bounds the characters of such a word. Chosen, not measured."""
AROUND = "\"'“”„‘’`()[]{}<>,;:!?"
"""What may be around an id in a text."""


def possible_ids(text: str, found: Found) -> list[str]:
    """The words of a query that may be ids: those with letters or signs and a digit, such as INV-88213; alone, any with
    a digit or a sign, and a plain word that no record has."""
    words = [word for word in (chunk.strip(AROUND) for chunk in text.split()[: 8 * MOST_IDS]) if word]
    if len(words) == 1 and (not words[0].isalpha() or not found.words):
        ids = words
    else:
        ids = [word for word in words if any(map(str.isdigit, word)) and not word.isdigit()]
    return [each for each in dict.fromkeys(ids) if len(each) <= LONGEST_ID][:MOST_IDS]


def with_records(found: Found, docs: Mapping[int, str]) -> Found:
    """What was found, and these documents, with their entities, before all others: one more term, which is theirs
    alone."""
    ranking, missing = found.ranking, _missing(found.ranking, docs)
    if missing:
        found, ranking = _with_parts(found, missing)
    at = ranking.positions(np.array(sorted(docs), "<i8"))
    own = np.float32(ranking.most + (K1 + 1) * idf(len(ranking.scores) + 1, 1) + 1)
    scores = ranking.scores.copy()
    scores[at[at >= 0]] += own
    return replace(found, ranking=ranking.with_scores(scores, ranking.most + float(own)), named=frozenset(docs))


def _missing(ranking: Ranking, docs: Mapping[int, str]) -> list[tuple[str, int]]:
    numbers = sorted(docs)
    at = ranking.positions(np.array(numbers, "<i8")).tolist()
    return sorted((docs[doc], doc) for doc, place in zip(numbers, at, strict=True) if place < 0)


def _with_parts(found: Found, missing: list[tuple[str, int]]) -> tuple[Found, Ranking]:
    """With parts of documents that the server did not return: they have none of the words."""
    added = []
    for entity, group in groupby(missing, key=itemgetter(0)):
        own = np.array([doc for _, doc in group], "<i8")
        added.append(Part(Head.of(entity, own, np.zeros(len(own), "<u4")), None, defaultdict(lambda: ABSENT)))
    parts = [*found.parts, *added]
    return (
        replace(
            found,
            parts=parts,
            required=_padded(found.required, len(missing)),
            excluded=_padded(found.excluded, len(missing)),
        ),
        found.ranking.with_parts(parts, added),
    )


def _padded(mask: Array | None, size: int) -> Array | None:
    return None if mask is None else np.concatenate([mask, np.zeros(size, bool)])
