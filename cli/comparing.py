"""`kameleon eval --before … --after …`: two settings of a search, query by query. Imports what commands share."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .app import App, echo, parse_object

if TYPE_CHECKING:
    from kameleon.evaluation import Compared, Comparison
    from kameleon.search.options import SearchOptions


def read_setting(text: str | None, option: str) -> "SearchOptions":
    """Options of a search as JSON; `rerank` is the name or the folder of a cross-encoder."""
    setting: Any = dict(parse_object(text, option)) if text else {}
    if isinstance(setting.get("rerank"), str):
        from kameleon.embeddings import FastEmbedReranker

        setting["rerank"] = FastEmbedReranker(setting["rerank"])
    return setting  # type: ignore[no-any-return]


def print_comparison(app: App, found: "Comparison", show: int) -> None:
    if app.as_json:
        app.print_json(as_json(found))
        return
    means = [f"{found.mean(name):.4f}" for name in ("ndcg_before", "ndcg_after")]
    rows = [("", *means, f"{found.gain:+.4f}", f"mean of {len(found.queries)} queries")]
    rows += [shown(query) for query in found.most_different(show)]
    app.print_rows(("query", "before", "after", "difference", "text"), rows, is_headed=True)
    echo(f"{found.wins} queries better, {found.losses} worse, {found.ties} equal (nDCG@10)", err=True)
    echo(f"MRR@10 {found.mean('mrr_before'):.4f} before, {found.mean('mrr_after'):.4f} after", err=True)
    if found.skipped:
        echo(f"{found.skipped} queries skipped: no relevant record of theirs is in the index", err=True)
    echo(found.verdict, err=True)
    for note in found.notes[:5]:
        echo(note, err=True)


def shown(query: "Compared") -> tuple[str, ...]:
    figures = f"{query.ndcg_before:.4f}", f"{query.ndcg_after:.4f}", f"{query.difference:+.4f}"
    return query.query, *figures, query.text


def as_json(found: "Comparison") -> Mapping[str, Any]:
    names = ("ndcg_before", "ndcg_after", "mrr_before", "mrr_after")
    return {
        **{name: found.mean(name) for name in names},
        **{name: getattr(found, name) for name in ("gain", "noise", "p", "wins", "losses", "ties", "verdict")},
        **{name: getattr(found, name) for name in ("skipped", "judged", "unknown", "notes")},
        "queries": [{**asdict(query), "difference": query.difference} for query in found.queries],
    }
