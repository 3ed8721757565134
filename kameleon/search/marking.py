"""Marks what matched in the hits of a page, and cuts their snippets. Reads nothing, and may embed sentences. Imports
`values` and `analysis`."""

from collections.abc import Sequence
from dataclasses import replace

from ..analysis.analyser import Analyser, merged
from ..analysis.finding import WordFinder
from ..analysis.highlighting import MARKED_CHARACTERS, sentences
from ..values import SearchResult
from .legs import Retrieved
from .prepared import Prepared
from .query import Query
from .snippets import Around, Occurrence, all_occurrences, make_snippet

MARKED_HITS = 10
"""Bounds the hits without a word of the query whose sentences are embedded. Chosen, not measured."""
SOUGHT_CHARACTERS = 2_000_000
"""Bounds the characters of a page's hits in which words are sought beyond the first 20,000 of each: 0.15 s of CPU."""


def marked(
    analyser: Analyser,
    query: Query,
    prepared: Prepared,
    hits: Sequence[SearchResult],
    around: Sequence[Around],
    found: Retrieved,
) -> list[SearchResult]:
    """The hits with their spans and snippets, where the query wants them. `around` is whether a record has more text
    before and after what is shown of it."""
    if not query.highlight:
        return list(hits)
    texts = [hit.matched_text for hit in hits]
    places = _occurrences(analyser, texts, found, query.snippet_characters)
    unmarked = [place for place, each in enumerate(places) if not each]
    for place, (start, end) in _nearest(query, prepared, texts, unmarked, found).items():
        places[place] = [(start, end, 0)]
    return [with_marks(query, *each) for each in zip(hits, places, around, strict=True)]


def with_marks(query: Query, hit: SearchResult, found: Sequence[Occurrence], around: Around) -> SearchResult:
    snippet = make_snippet(hit.matched_text, found, query.snippet_characters, around)
    first, last = snippet.start, snippet.start + len(snippet.text)
    shown = [place[:2] for place in found if place[1] <= MARKED_CHARACTERS or first <= place[0] <= place[1] <= last]
    return replace(hit, spans=tuple(merged(shown)), snippet=snippet)


def _occurrences(analyser: Analyser, texts: Sequence[str], found: Retrieved, length: int) -> list[list[Occurrence]]:
    """Of each text those of its beginning, and those of its best window as far as the page's characters go."""
    finder, left = WordFinder(analyser, found.marked), SOUGHT_CHARACTERS
    places: list[list[Occurrence]] = []
    for text in texts:
        is_sought = len(text) > MARKED_CHARACTERS and len(text) <= left
        left -= len(text) * is_sought
        places.append(all_occurrences(analyser, finder if is_sought else None, text, found.marked, length))
    return places


def _nearest(
    query: Query, prepared: Prepared, texts: Sequence[str], unmarked: Sequence[int], found: Retrieved
) -> dict[int, tuple[int, int]]:
    """In texts without a word of the query, the sentence nearest to it, where embedding costs nothing; for the caller's
    own vector none is embedded."""
    service, embedding = prepared.service, found.embedding
    if service is None or embedding is None or service.provider.is_costly or query.vector is not None:
        return {}
    cut = {place: sentences(texts[place]) for place in unmarked[:MARKED_HITS]}
    made = iter(
        service.embed_batch(
            [texts[place][start:end] for place, spans in cut.items() for start, end in spans], on_error="collect"
        ).embeddings
    )
    nearest: dict[int, tuple[int, int]] = {}
    for place, spans in cut.items():
        near = [(float(vector @ embedding), span) for span in spans if (vector := next(made)) is not None]
        if near:
            nearest[place] = max(near, key=lambda one: one[0])[1]
    return nearest
