"""Reads and writes files of queries and judgements, as BEIR has them. Imports `errors`, `indexing` and
`judgements`."""

import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from ..errors import InvalidInput
from ..indexing.judgements import MAX_GAIN
from ..judgements import Judgement

QUERY, JUDGEMENT = '{"_id": "…", "text": "…"}', "query-id, corpus-id and score, separated by tabs"


def read_queries(lines: Iterable[str], name: str = "queries") -> dict[str, str]:
    """Texts by id from JSON lines. Raises InvalidInput, naming the line."""
    queries: dict[str, str] = {}
    for number, line in _numbered(lines, name):
        try:
            query = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{name}:{number} is not {QUERY}: it is not JSON: {line.strip()!r:.80}") from error
        if not isinstance(query, dict) or not {"_id", "text"} <= query.keys():
            seen = f"it has {', '.join(map(repr, query)) or 'nothing'}" if isinstance(query, dict) else repr(query)
            raise InvalidInput(f"{name}:{number} is not {QUERY}: {seen:.80}")
        id_, text = query["_id"], query["text"]
        if isinstance(id_, bool) or not isinstance(id_, str | int) or id_ == "":
            raise InvalidInput(f"{name}:{number} is not {QUERY}: _id is {id_!r:.80}")
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput(f"{name}:{number} is not {QUERY}: text is {text!r:.80}")
        if str(id_) in queries:
            raise InvalidInput(f"{name}:{number}: query {id_!r:.80} is in a line above, too")
        queries[str(id_)] = text
    if not queries:
        raise InvalidInput(f"{name} has no queries: one a line, {QUERY}")
    return queries


def read_qrels(lines: Iterable[str], name: str = "qrels") -> dict[str, dict[str, float]]:
    """Gains by query and record from lines of three columns, below a header or not; negative ones are 0. Raises
    InvalidInput, naming the line."""
    qrels: dict[str, dict[str, float]] = {}
    for number, line in _numbered(lines, name):
        parts = line.rstrip("\r\n").split("\t")
        if number == 1 and parts[-1].strip() == "score":
            continue
        try:
            query, record, score = (part.strip() for part in parts)
            gain = float(score)
        except ValueError:
            query = record = ""
        if not (query and record and abs(gain) <= MAX_GAIN):
            raise InvalidInput(f"{name}:{number} is not {JUDGEMENT}: {line.strip()!r:.80}")
        qrels.setdefault(query, {})[record] = max(0.0, gain)
    if not qrels:
        raise InvalidInput(f"{name} judges nothing: one record a line, {JUDGEMENT}")
    return qrels


def query_lines(judgements: Iterable[Judgement]) -> Iterator[str]:
    """The judged queries as JSON lines, each with an id that follows from its text."""
    for query in sorted({one.query for one in judgements}):
        yield json.dumps({"_id": id_of(query), "text": query}, ensure_ascii=False) + "\n"


def qrels_lines(judgements: Iterable[Judgement]) -> Iterator[str]:
    """A header, and the judgements with the ids of `query_lines`; a record is entity/id. Raises InvalidInput for a
    record that a line cannot hold."""
    yield "query-id\tcorpus-id\tscore\n"
    for one in judgements:
        record = f"{one.entity}/{one.id}"
        if "\t" in record or len(record.splitlines()) > 1 or record != record.strip():
            raise InvalidInput(
                f"a line of qrels cannot hold the record {record!r:.80}: it has tabs, ends of lines or spaces at an "
                "end. `kameleon judgements list --json` has it"
            )
        gain = int(one.gain) if one.gain == int(one.gain) else one.gain
        yield f"{id_of(one.query)}\t{record}\t{gain}\n"


def id_of(query: str) -> str:
    """An id that follows from the query, the same as in the files of the page."""
    return quote(query, safe="!*'()")


def _numbered(lines: Iterable[str], name: str) -> Iterator[tuple[int, str]]:
    try:
        yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8: {error.reason}") from error
