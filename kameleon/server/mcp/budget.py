"""Cuts what tools return to a budget of tokens, at the borders of passages. Pure. Imports `documents` and `values`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ...documents import passage_document, plain, row_document
from ...values import SearchResult

BYTES_A_TOKEN = 3
"""What a token is taken for. The bundled model's tokens are 3.2 to 4.0 bytes of English prose and code, and 1.9 of JSON
that is mostly names and numbers; those of larger models are longer."""
SHORT = 200
"""Bounds the characters of a field that is kept of a record that is cut. Chosen, not measured."""
BORDERS = ("\n\n", "\n", ". ", "? ", "! ", "。", " ")
"""Where a text is cut, the best first."""
LEAST = 100
"""Bounds the tokens that a hit is cut to: those of a snippet and of its keys, and a few fields. Chosen, not
measured."""


def as_text(document: Any) -> str:
    """As JSON, compact."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=plain)


def tokens(document: Any) -> int:
    """About how many tokens a document has as JSON; at least so many for most models."""
    return -(-len(as_text(document).encode("utf-8", "replace")) // BYTES_A_TOKEN)


def uri_of(entity: str, id: str, tenant: str = "") -> str:
    """The URI of a record's resource."""
    query = f"?tenant={quote(tenant, safe='')}" if tenant else ""
    return f"kameleon://{quote(entity, safe='')}/{quote(id, safe='')}{query}"


def key_of(entity: str, id: str, tenant: str = "") -> dict[str, Any]:
    return {
        "entity": entity,
        "id": id,
        **({"tenant": tenant} if tenant else {}),
        "uri": uri_of(entity, id, tenant),
    }


def fitted(hits: Sequence[SearchResult], budget: int) -> list[dict[str, Any]]:
    """The hits, as many of the best as the budget is enough for, but one at least; those that are short whole, others
    cut to equal shares of what is left."""
    hits = hits[: max(1, budget // LEAST)]
    whole = [whole_hit(hit) for hit in hits]
    needs = [size_of(document) for document in whole]
    level = water_level(needs, budget)
    made = [doc if need <= level else cut_hit(hit, level) for hit, doc, need in zip(hits, whole, needs, strict=True)]
    while len(made) > 1 and sum(map(size_of, made)) > budget:
        made.pop()
    return made


def size_of(hit: Mapping[str, Any]) -> int:
    """With the comma after it."""
    return tokens(hit) + 1


def water_level(needs: Sequence[int], budget: int) -> int:
    """The greatest share for which all needs, each of them cut to it, are within the budget."""
    left = budget
    for place, need in enumerate(sorted(needs)):
        share = left // (len(needs) - place)
        if need > share:
            return share
        left -= need
    return max(needs, default=0)


def scored(hit: SearchResult) -> dict[str, Any]:
    """What a hit is, without its content."""
    scores = {"score": round(hit.score, 6)}
    if hit.similarity is not None:
        scores["similarity"] = round(hit.similarity, 3)
    return key_of(hit.entity, hit.id, hit.tenant) | scores


def whole_hit(hit: SearchResult) -> dict[str, Any]:
    content = {"matched_text": hit.matched_text} if hit.data is None else {"data": row_document(hit.data)}
    return {**scored(hit), **content, "is_cut": False}


def cut_hit(hit: SearchResult, most: int) -> dict[str, Any]:
    """A hit of at most so many tokens: its best passage, then its short fields, then more passages, while they fit."""
    made: dict[str, Any] = {**scored(hit), "is_cut": True}
    left = most - size_of(made)
    chosen: list[dict[str, Any]] = []
    offered = [passage_document(passage) for passage in hit.passages]
    if not offered or tokens(offered[0]) > left:
        offered = [snippet_of(hit)] if hit.snippet else []
    for passage in offered[:1]:
        if (need := tokens(passage)) <= left:
            chosen, left = [passage], left - need
    data, left = short_fields(row_document(hit.data) or {}, left)
    for passage in offered[1:]:
        if (need := tokens(passage)) <= left:
            chosen, left = [*chosen, passage], left - need
    chosen.sort(key=lambda passage: passage["start"])
    return {**made, **({"data": data} if data else {}), "passages": chosen}


def snippet_of(hit: SearchResult) -> dict[str, Any]:
    assert hit.snippet is not None  # noqa: S101 - the caller has looked
    start = hit.snippet.start
    return {"text": str(hit.snippet), "start": start, "end": start + len(hit.snippet.text)}


def short_fields(data: Mapping[str, Any], left: int) -> tuple[dict[str, Any], int]:
    """The fields that are short, while they fit, and what is left then."""
    kept: dict[str, Any] = {}
    for name, value in data.items():
        need = tokens({name: value})
        if len(as_text(value)) <= SHORT and need <= left:
            kept[name], left = value, left - need
    return kept, left


def part_of(text: str, start: int, most: int) -> str:
    """The text from a character on, as much as fits in so many tokens, ended with a line, a sentence or a word."""
    size = max(1, most) * BYTES_A_TOKEN
    part = (
        text[start : start + size].encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
        or text[start : start + 1]
    )
    while tokens(part) > max(1, most) and len(part) > 1:  # what JSON escapes
        part = part[: len(part) * 9 // 10]
    if start + len(part) >= len(text):
        return part
    half = len(part) // 2
    ends = (part.rfind(border, half) + len(border) for border in BORDERS if part.find(border, half) >= 0)
    return part[: next(ends, len(part))]
