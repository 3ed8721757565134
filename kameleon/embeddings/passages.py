"""Long texts into passages that a model reads whole: counted in its tokens, overlapping, cut where a line, a sentence
or at least a word ends. Time and memory are those of the passages, whatever the text's length. Imports this package
alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import combining

if TYPE_CHECKING:
    from .provider import EmbeddingProvider

MAX_PASSAGES = 1_000
"""Bounds the embeddings of one record. Chosen, not measured."""
PIECE, WORD = 100_000, 1_000
"""Bound the characters that are tokenised at a time, and the word that a piece ends with. Chosen, not measured."""
CHARACTERS_A_TOKEN = 8
"""A text of more characters a token than this is split without being counted before."""
OVERLAP, NEAR_THE_END = 8, 4
"""The parts of a passage that are in the next one, and within which it may end."""
SENTENCE_ENDS, FULL_STOPS = frozenset(".!?…:;。！？"), frozenset("。！？")
JOINERS = frozenset("\u200d\ufe0e\ufe0f")
INSIDE, ANYWHERE, WORD_END, SENTENCE_END, LINE_END = range(5)


class Place(NamedTuple):
    """Of a passage in its text, in characters."""

    start: int
    end: int


Places = Mapping[str, Sequence[Place]]


def split_long(texts: Sequence[str], provider: "EmbeddingProvider") -> dict[str, list[Place]]:
    """The passages of those texts that have more than one. Raises what the provider does."""
    window = provider.window
    if not window:
        return {}
    found = {text: split(text, provider, window) for text in longer_than(window, texts, provider)}
    return {text: places for text, places in found.items() if len(places) > 1}


def longer_than(window: int, texts: Sequence[str], provider: "EmbeddingProvider") -> list[str]:
    """Texts that may have more tokens. A token has a character at least, so that most texts are not tokenised."""
    doubtful = [text for text in texts if window < len(text) <= window * CHARACTERS_A_TOKEN]
    short = {text for text, n in zip(doubtful, provider.count_all(doubtful), strict=True) if n <= window}
    return [text for text in dict.fromkeys(texts) if len(text) > window and text not in short]


def passages(text: str, places: Places) -> list[str]:
    return [text[start:end] for start, end in places[text]] if text in places else [text]


def split(text: str, provider: "EmbeddingProvider", window: int) -> list[Place]:
    """Passages of at most `window` tokens, each beginning in the last eighth of the one before; all characters are in
    one of them, up to the end of the last of MAX_PASSAGES."""
    tokens = Tokens(text, provider)
    places: list[Place] = []
    first = start = 0
    while len(places) < MAX_PASSAGES:
        if not tokens.reach(first + window):
            places.append(Place(start, len(text)))
            break
        least = first + window - window // NEAR_THE_END
        # the token before which a passage ends best, the last of equals
        after = max(range(least, first + window + 1), key=lambda token: (tokens.kind(token), token))
        end = tokens.starts[after]
        if end > start:
            places.append(Place(start, end))
        first = next_first(tokens, after, window // OVERLAP)
        start = min(end, tokens.starts[first])
    return places


def next_first(tokens: "Tokens", after: int, overlap: int) -> int:
    """The token that the next passage begins with: a word's first, where one begins early enough."""
    earliest = after - overlap
    for token in range(earliest, after - overlap // 2):
        if tokens.kind(token) >= WORD_END:
            return token
    return max(range(earliest, after - overlap // 2 + 1), key=lambda token: (tokens.kind(token), -token))


class Tokens:
    """The places of a text's tokens, computed as far as they are needed."""

    def __init__(self, text: str, provider: "EmbeddingProvider") -> None:
        self.text = text
        self.starts: list[int] = []
        self.ends: list[int] = []
        self._provider = provider
        self._pieces = pieces(text)

    def reach(self, token: int) -> bool:
        """Whether there is such a token."""
        while len(self.starts) <= token:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            for start, end in self._provider.token_spans(self.text[piece.start : piece.end]):
                self.starts.append(piece.start + start)
                self.ends.append(piece.start + end)
        return True

    def kind(self, token: int) -> int:
        """What would be cut before this token."""
        before, start = self.ends[token - 1], self.starts[token]
        if start <= self.starts[token - 1]:
            return INSIDE
        if self.text.find("\n", before, start) >= 0 or self.text[start - 1] == "\n":
            return LINE_END
        last = self.text[max(0, before - 1)]
        if start > before or self.text[start].isspace():
            return SENTENCE_END if last in SENTENCE_ENDS else WORD_END
        if last in FULL_STOPS:
            return SENTENCE_END
        is_joined = combining(self.text[start]) or self.text[start] in JOINERS or self.text[start - 1] in JOINERS
        return INSIDE if is_joined else ANYWHERE


def pieces(text: str) -> Iterator[Place]:
    """Cut a text into pieces that end with a word if that is not a very long one."""
    start = 0
    while start < len(text):
        end = min(len(text), start + PIECE)
        if end < len(text):
            end = max(text.rfind(" ", end - WORD, end), text.rfind("\n", end - WORD, end)) + 1 or end
        yield Place(start, end)
        start = end
