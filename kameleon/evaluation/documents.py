"""The JSON document of an evaluation. Imports this package alone."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .measuring import Evaluation


def evaluation_document(found: "Evaluation") -> dict[str, Any]:
    """What `evaluate` found; the weights of its curve and errors are texts such as "0.05"."""
    return {
        "queries": found.queries,
        "skipped": found.skipped,
        "judged": found.judged,
        "unknown": found.unknown,
        "figures": {name: asdict(figures) for name, figures in found.figures.items()},
        "model": found.generation.model_name if found.generation else None,
        "generation": found.generation.number if found.generation else None,
        "weight": found.weight,
        "best_weight": found.best,
        "gain": found.gain,
        "noise": found.noise,
        "objection": found.objection,
        "ndcg_by_weight": {f"{weight:.2f}": value for weight, value in (found.curve or {}).items()},
        "errors_by_weight": {f"{weight:.2f}": value for weight, value in (found.errors or {}).items()},
        "fit": _fit(found),
        "notes": found.notes,
    }


def _fit(found: "Evaluation") -> dict[str, Any] | None:
    if found.fit is None:
        return None
    return {**asdict(found.fit), "weighting": found.fit.weighting.as_document(), "objection": found.fit_objection}
