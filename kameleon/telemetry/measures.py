"""The names of operations, and what is measured of them: those of OpenTelemetry's semantic conventions where there is
one (`gen_ai.*`, `db.*`, `error.type`), others begin with `kameleon.`. Imports nothing of kameleon's but this package.

Prometheus has the same measures under the names that a collector gives them: `.` becomes `_`, units are appended."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from .operations import Observed

RETRIEVAL = "retrieval"
EMBEDDINGS = "embeddings"
EMBEDDING = "kameleon.embedding"
SUGGESTION = "kameleon.suggest"
COMMIT = "kameleon.commit"
WRITE = "kameleon.write"
FOLD = "kameleon.fold"
WORK = "kameleon.worker"

ERROR = "error.type"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
QUERY_TEXT = "gen_ai.retrieval.query.text"
DOCUMENTS = "gen_ai.retrieval.documents"
RETURNED_ROWS = "db.response.returned_rows"
BATCH_SIZE = "db.operation.batch.size"
INPUT_TOKENS, TOKEN_TYPE = "gen_ai.usage.input_tokens", "gen_ai.token.type"
SYSTEM = "db.system.name"
MODE = "kameleon.search.mode"
LEGS = "kameleon.search.legs"
STEP = "kameleon.step"
TASK = "kameleon.worker.task"
TAKEN = "kameleon.worker.records"
OUTCOME = "kameleon.outcome"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The borders of the durations that are counted together: searches of small indexes take 1 ms, calls of a provider over
the network seconds. Chosen, not measured."""
ROWS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""The borders of the numbers of hits that are counted together. Chosen, not measured."""

INPUTS = tuple(4**n for n in range(11))
"""The borders of the tokens that are counted together: those of the semantic conventions."""


class Measure(NamedTuple):
    """`labels` are the attributes of an operation that its figures are counted by."""

    name: str
    unit: str
    description: str
    labels: tuple[str, ...] = ()


CLIENT = Measure(
    "gen_ai.client.operation.duration",
    "s",
    "Duration of a search, or of a call of the embedding provider",
    (OPERATION, PROVIDER, MODEL, MODE, LEGS, ERROR),
)
DURATIONS: Mapping[str, Measure] = {
    RETRIEVAL: CLIENT,
    EMBEDDINGS: CLIENT,
    SUGGESTION: Measure("kameleon.suggest.duration", "s", "Duration of a suggestion", (ERROR,)),
    COMMIT: Measure("kameleon.commit.duration", "s", "What indexing adds to a session's commit", (SYSTEM, ERROR)),
    WRITE: Measure("kameleon.write.duration", "s", "Writing of a batch inside its transaction", (SYSTEM, ERROR)),
    FOLD: Measure("kameleon.fold.duration", "s", "A step of a fold or a merge of keywords", (STEP, ERROR)),
    WORK: Measure("kameleon.worker.duration", "s", "A batch of a worker", (TASK, ERROR)),
}
STEPS: Mapping[str, Measure] = {
    STEP: Measure("kameleon.search.step.duration", "s", "Duration of a step of a search", (STEP,)),
}
TOKENS = Measure(
    "gen_ai.client.token.usage",
    "{token}",
    "Tokens of a request to the provider, where it counts them",
    (OPERATION, PROVIDER, MODEL, TOKEN_TYPE),
)
RETURNED = Measure("db.client.response.returned_rows", "{row}", "Hits of a search", (SYSTEM, MODE))
AMOUNTS: Mapping[str, tuple[Measure, Sequence[int]]] = {
    RETURNED_ROWS: (RETURNED, ROWS),
    INPUT_TOKENS: (TOKENS, INPUTS),
}
"""The attributes that are measured, with the borders of what is counted together."""
HISTOGRAMS: Mapping[str, tuple[Measure, Sequence[float]]] = {
    **{measure.name: (measure, SECONDS) for measure in (*DURATIONS.values(), *STEPS.values())},
    **{measure.name: (measure, borders) for measure, borders in AMOUNTS.values()},
}
RECORDS, TEXTS, RETRIES = "kameleon.index.records", "kameleon.embedding.texts", "kameleon.embedding.retries"
COUNTERS: Mapping[str, Measure] = {
    RECORDS: Measure(RECORDS, "{record}", "Records that were written", (OUTCOME,)),
    TEXTS: Measure(TEXTS, "{text}", "Texts to be embedded", (OUTCOME,)),
    RETRIES: Measure(RETRIES, "{request}", "Repeated, divided and test requests to the provider", (OUTCOME,)),
}
SIZE = Measure(
    "kameleon.index.size",
    "{record}",
    "Records in the index, those that lack a current embedding or were refused, and rows that are not indexed",
    ("kameleon.entity", "kameleon.state"),
)
STATES = ("indexed", "pending", "failed", "unindexed")
"""The figures of an IndexStatus."""


def database(bind: "Engine | Connection") -> dict[str, Any]:
    """The attributes of a database: its system and its name, without the folder of a file."""
    name = (bind.engine.url.database or "").replace("\\", "/").rpartition("/")[2]
    system = bind.dialect.name
    return {SYSTEM: system, **({"db.namespace": name} if name else {})}


def batch(size: int) -> dict[str, int]:
    """The attribute of so many records that are written together; the convention has none for one."""
    return {BATCH_SIZE: size} if size > 1 else {}


def figures(operation: "Observed") -> Iterator[tuple[Measure, float, dict[str, Any]]]:
    """What is measured of an operation that ended, each figure with its labels."""
    of_error = {} if operation.error is None else {ERROR: operation.error}
    attributes = {**operation.attributes, **of_error, TOKEN_TYPE: "input"}
    if (measure := DURATIONS.get(operation.name)) is not None:
        yield measure, operation.seconds, _labels(measure, attributes)
    for name, seconds in operation.steps.items():
        yield from ((STEPS[name], taken, {STEP: step}) for step, taken in seconds.items())
    for name, counts in operation.figures.items():
        yield from ((COUNTERS[name], count, {OUTCOME: outcome}) for outcome, count in counts.items())
    for name, (measure, _) in AMOUNTS.items():
        if name in attributes:
            yield measure, attributes[name], _labels(measure, attributes)


def _labels(measure: Measure, attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attributes[name] for name in measure.labels if name in attributes}
