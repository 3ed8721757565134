"""What the vocabulary of a tokenizer has of a text, and of a word. Imports nothing of kameleon's."""

from typing import Any

CHARACTERS_READ = 120
"""Bounds the time that a query takes. Chosen, not measured."""
PRESUMED = 2
"""So many whole words are added to those of a text. Chosen, not measured."""


def known_share(tokenizer: Any, text: str) -> float:
    """The mean over the words at the beginning of a text of 1 / pieces, 0 for a word that is strange: with an unknown
    token, or of another script, spelt letter by letter.

    WordPiece leaves words of its own language whole and shatters others; but names and rarer words of its own, too, so
    that a few words in pieces prove little: PRESUMED whole words are added. Other tokenizers cut where no word ends, or
    into bytes: there only unknown tokens count.
    """
    if len(text) > CHARACTERS_READ:
        text = text[:CHARACTERS_READ].rpartition(" ")[0] or text[:CHARACTERS_READ]
    encoding = tokenizer.encode(text, add_special_tokens=False)
    model = tokenizer.model
    unknown = unknown_id(tokenizer)
    if type(model).__name__ != "WordPiece":
        return 1 - encoding.ids.count(unknown) / len(encoding.ids) if encoding.ids else 1.0
    pieces: dict[int, list[str]] = {}
    strange: set[int] = set()
    for id_, word, token, (start, end) in zip(
        encoding.ids, encoding.word_ids, encoding.tokens, encoding.offsets, strict=True
    ):
        if id_ == unknown:
            strange.add(word)
        if id_ == unknown or text[start:end].isalnum():
            pieces.setdefault(word, []).append(token.removeprefix("##"))
    strange |= {word for word, tokens in pieces.items() if all(len(t) == 1 and not t.isascii() for t in tokens)}
    presumed = 0 if strange else PRESUMED
    known = sum(0.0 if word in strange else 1 / len(tokens) for word, tokens in pieces.items())
    return (presumed + known) / (presumed + len(pieces)) if pieces else 1.0


def knows_word(tokenizer: Any, word: str) -> bool:
    """Whether a vocabulary has a word whole, as it is or with a capital: what is seldom written is in pieces."""
    unknown = unknown_id(tokenizer)
    ids = (tokenizer.encode(f" {way}", add_special_tokens=False).ids for way in (word, word.capitalize()))
    return any(len(found) == 1 and found[0] != unknown for found in ids)


def unknown_id(tokenizer: Any) -> int | None:
    name = getattr(tokenizer.model, "unk_token", None)
    found: int | None = getattr(tokenizer.model, "unk_id", None) if name is None else tokenizer.token_to_id(name)
    return found
