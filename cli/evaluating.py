"""`kameleon eval`: measures the index by judged queries. Imports what commands share."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .app import App, common, echo, importing, pass_app, quiet
from .comparing import print_comparison, read_setting
from .embeddings import weighting_lines
from .providing import providing
from .search import entities_of
from .tenancy import within_tenants

if TYPE_CHECKING:
    from kameleon import SearchEngine
    from kameleon.evaluation import Evaluation

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NAMES = {"ndcg": "nDCG@10", "recall": "recall@100", "mrr": "MRR"}


@click.command("eval")
@click.option("--queries", type=FILE, help='JSON lines of {"_id": "…", "text": "…"}; without it what the index keeps.')
@click.option("--qrels", type=FILE, help="Lines of query-id, corpus-id and score, separated by tabs; with --queries.")
@click.option("-e", "--entity", "entities", metavar="NAME", multiple=True, help="Only this entity. Repeatable.")
@click.option("--plot", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write a bar chart (SVG).")
@click.option(
    "--save", is_flag=True, help="Keep the weight that fits best with the index's embeddings, or one by query."
)
@click.option("--before", metavar="JSON", help="Compare this setting with --after; without it the index's own.")
@click.option("--after", metavar="JSON", help="Compare this setting with --before; without it the index's own.")
@click.option(
    *("--show", "shown"), type=click.IntRange(0), default=5, show_default=True, help="So many wins and losses each."
)
@within_tenants
@importing
@providing
@quiet
@common
@pass_app
def evaluation(
    app: App,
    /,
    queries: Path | None,
    qrels: Path | None,
    entities: tuple[str, ...],
    before: str | None,
    after: str | None,
    shown: int,
    within: Mapping[str, Any],
    **wanted: Any,
) -> None:
    """Measure how well this index answers judged queries, or which of two settings answers them better.

    Both files are as BEIR has them; a corpus-id is a record's id, or entity/id where several entities have it. Without
    them queries are those that are kept with the index: by `kameleon judgements`, or by the page of `kameleon serve`.
    Each way of searching is measured, and every weight of the vector from 0 to 1 in steps of .05. --save wants ten
    judged queries, and a weight that is better on them by more than chance. From fifty queries on a weight that follows
    from the query is fitted, too, and kept if it is better than one weight on queries that it was not fitted to.

    With --before or --after, options of a search as JSON, each query is searched with both.

    \b
    kameleon eval --queries queries.jsonl --qrels qrels.tsv --plot quality.svg
    kameleon eval --entity Ticket --save
    kameleon eval --queries queries.jsonl --qrels qrels.tsv --before '{"mode": "keyword"}' --after '{"weight": 0.5}'
    """
    files = read_files(queries, qrels)
    is_compared = not (before is None and after is None)
    if is_compared and (wanted["save"] or wanted["plot"]):
        raise click.UsageError("--before and --after compare two settings: leave --save and --plot out")
    settings: Any = {name: read_setting(text, f"--{name}") for name, text in (("before", before), ("after", after))}
    engine = app.open()
    entities_of(engine, entities)
    if not is_compared:
        measure(app, engine, files, entities, within, **wanted)
        return
    from kameleon.evaluation import compare

    print_comparison(app, compare(engine, **files, **settings, entities=entities, **within), shown)


def read_files(queries: Path | None, qrels: Path | None) -> dict[str, Any]:
    """What `evaluate` takes of both files, nothing without them."""
    if queries is None and qrels is None:
        return {}
    if queries is None or qrels is None:
        raise click.UsageError("--queries and --qrels belong together: give both, or none for what the index keeps")
    return dict(zip(("queries", "qrels"), read(queries, qrels), strict=True))


def measure(
    app: App,
    engine: "SearchEngine",
    files: Mapping[str, Any],
    entities: tuple[str, ...],
    within: Mapping[str, Any],
    *,
    plot: Path | None,
    save: bool,
) -> None:
    from kameleon.evaluation import ENOUGH_QUERIES, evaluate, evaluation_document, keep

    found = evaluate(engine, **files, entities=entities, **within)
    if save and (found.best is None or found.queries < ENOUGH_QUERIES):
        raise click.UsageError(f"--save: {'. '.join([str(found.objection), *found.notes])}")
    if plot is not None:
        draw(found, plot)
    is_saved = save and keep(engine, found) is not None
    if app.as_json:
        app.print_json({**evaluation_document(found), "saved": is_saved})
        return
    rows = [(name, *(f"{value:.4f}" for value in named(found, name).values())) for name in found.figures]
    app.print_rows(("search", *NAMES.values()), rows, is_headed=True)
    for line in lines_of(found, save, entities):
        echo(line, err=True)


def read(queries: Path, qrels: Path) -> tuple[dict[str, str], dict[str, dict[str, float]]]:
    from kameleon.evaluation import read_qrels, read_queries

    with queries.open(encoding="utf-8-sig") as lines:
        texts = read_queries(lines, str(queries))
    with qrels.open(encoding="utf-8-sig") as lines:
        return texts, read_qrels(lines, str(qrels))


def draw(found: "Evaluation", plot: Path) -> None:
    from .plotting import bar_chart

    title = f"{found.queries} queries, {found.generation.model_name if found.generation else 'keywords only'}"
    plot.write_text(bar_chart(title, {name: named(found, name) for name in found.figures}), "utf-8")


def named(found: "Evaluation", name: str) -> dict[str, float]:
    return {NAMES[figure]: value for figure, value in asdict(found.figures[name]).items()}


def lines_of(found: "Evaluation", save: bool, entities: tuple[str, ...]) -> list[str]:
    """The lines below the figures."""
    lines = [f"{found.queries} queries"]
    if found.skipped:
        lines[0] += f", {found.skipped} skipped: no relevant record of theirs is in the index"
    indexed = f"{found.judged - found.unknown} of {found.judged}" if found.unknown else f"all {found.judged}"
    lines.append(f"{indexed} judged records are in the index")
    if found.curve is not None and found.best is not None and found.weight is not None:
        best = f"weight {found.best:.2f} fits best: nDCG@10 {found.curve[found.best]:.4f}"
        lines.append(f"{best}; the index has {found.weight:.2f}")
        if found.objection is not None:
            lines.append(f"{'not saved' if save else 'nothing for --save'}: {found.objection}")
        elif save:
            lines.append(
                f"saved: the index has {found.best:.2f} now, {found.gain:.4f} better (chance: {found.noise:.4f})"
            )
        else:
            lines.append(f"--save keeps it: {found.gain:.4f} better (chance: {found.noise:.4f})")
        lines += lines_of_fit(found, save)
        if entities and None in (found.objection, found.fit_objection):
            lines.append(f"the weight is the whole index's, not that of {', '.join(entities)} alone")
    return [*lines, *found.notes[:5]]


def lines_of_fit(found: "Evaluation", save: bool) -> list[str]:
    """The lines about a weight by query."""
    now = list(weighting_lines([found.generation] if found.generation else []))
    if found.fit is None:
        return [*now, f"no weight by query: {found.fit_objection}"] if save else now
    fit, means = found.fit, f"nDCG@10 {found.fit.fitted:.4f}, of one weight {found.fit.fixed:.4f}, cross-validated"
    lines = [*now, f"a weight by query: {means}"]
    if found.fit_objection is not None:
        return [*lines, f"{'not saved' if save else 'nothing for --save'}: {found.fit_objection}"]
    better = f"{fit.gain:.4f} better (chance: {fit.noise:.4f}): {fit.weighting}"
    return [*lines, f"saved: {better}" if save else f"--save keeps it: {better}"]
