"""/api/judgements, /api/evaluate and /api/weight: judges records, and measures the index by it. Imports `errors`,
`evaluation`, `judgements` and `values`."""

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import InvalidInput
from ...evaluation import evaluate, evaluation_document, qrels_lines, query_lines
from ...judgements import Judgement
from ...values import ALL_TENANTS
from ..answers import DeleteAnswer, EvaluationAnswer, JudgementsAnswer, KeptAnswer, WeightAnswer
from ..models import EvaluateRequest, Judged, Judgements, ListJudgements, UnjudgeRequest, WeightRequest, Within
from ..operations import Call, Operation

TSV, JSON_LINES = "text/tab-separated-values", "application/jsonl"


def list_(call: Call[ListJudgements]) -> Mapping[str, Any]:
    """Those of all tenants where none is named."""
    within = {"tenant": ALL_TENANTS, **call.within}
    found = call.serving.search.judgements.list(query=call.given.query, entities=call.given.named, **within)
    return {"judgements": [one.as_document() for one in found]}


def put(call: Call[Judgements]) -> Mapping[str, Any]:
    judgements, given = call.serving.search.judgements, call.given.several
    kept = judgements.load(read(call, (one for one in given if one.gain is not None)))
    removed = 0
    for one in given:
        if one.gain is None:
            removed += judgements.remove(one.query, [(one.entity, one.id)], tenant=tenant_of(call, one))
    return {"kept": kept, "removed": removed}


def delete(call: Call[UnjudgeRequest]) -> Mapping[str, Any]:
    given = call.given
    if (given.entity is None) != (given.id is None):
        raise InvalidInput("a record has an entity and an id: give both, or neither to remove all of the query")
    records = None if given.entity is None else [(given.entity, given.id)]
    return {"deleted": call.serving.search.judgements.remove(given.query, records, **call.within)}


def qrels(call: Call[Within]) -> str:
    return "".join(qrels_lines(call.serving.search.judgements.list(**call.within)))


def queries(call: Call[Within]) -> str:
    return "".join(query_lines(call.serving.search.judgements.list(**call.within)))


def measure(call: Call[EvaluateRequest]) -> Mapping[str, Any]:
    given, serving = call.given, call.serving
    judged = None if given.judgements is None else read(call, (one for one in given.judgements if one.gain is not None))
    options = {"judgements": judged, "entities": given.named, **call.within}
    return evaluation_document(evaluate(serving.search, fits=False, cache=serving.answers, **options))


def set_weight(call: Call[WeightRequest]) -> Mapping[str, Any]:
    if call.serving.tenant:
        raise InvalidInput("the weight is that of all tenants, and this server is for one: `kameleon eval --save`")
    generation = call.serving.search.admin.set_weight(call.given.weight)
    return {"weight": generation.weight, "generation": generation.number, "model": generation.model_name}


def read(call: Call[Any], given: Iterable[Judged]) -> list[Judgement]:
    """As judgements of their tenants. Raises InvalidInput for one of another tenant than the server's."""
    return [Judgement(one.query, one.entity, str(one.id), one.gain or 0.0, tenant_of(call, one) or "") for one in given]


def tenant_of(call: Call[Any], one: Judged) -> str | None:
    tenant: str | None = call.serving.within(call.request, one.tenant).get("tenant")
    return tenant


ALL = "/api/judgements"
OPERATIONS = [
    Operation("GET", ALL, "List judgements.", list_, JudgementsAnswer, ListJudgements),
    Operation("PUT", ALL, "Judge records, or remove what was judged.", put, KeptAnswer, body=Judgements, writes=True),
    Operation("DELETE", ALL, "Remove what was judged of a query.", delete, DeleteAnswer, UnjudgeRequest, writes=True),
    Operation("GET", f"{ALL}/qrels", "Export judgements as BEIR's qrels.", qrels, str, Within, produces=TSV),
    Operation("GET", f"{ALL}/queries", "Export judged queries.", queries, str, Within, produces=JSON_LINES),
    Operation("POST", "/api/evaluate", "Measure the index.", measure, EvaluationAnswer, body=EvaluateRequest),
    Operation("PUT", "/api/weight", "Set the weight.", set_weight, WeightAnswer, body=WeightRequest, writes=True),
]
