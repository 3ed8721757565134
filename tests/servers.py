"""The embeddings servers that people use, as the loopback server imitates them: requests they accept, their answers."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .loopback import Answer, error, good

Request = dict[str, Any]
Row = dict[str, Any]


def body_of(answer: Answer) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(answer[2])
    return parsed


def plain(status: int, body: object, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status, headers, data


def floats(request: Request) -> Answer:
    return good({**request, "encoding_format": "float"})


def edited(answer: Answer, edit: Callable[[int, Row], Row], **fields: Any) -> Answer:
    """The same answer with each row changed and other fields beside them."""
    body = body_of(answer)
    body["data"] = [edit(place, row) for place, row in enumerate(body["data"])]
    return plain(200, {**body, **fields})


def without_index(place: int, row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "index"}


def at_most(texts: int, refusal: Callable[[Request], Answer | None], answer: Callable[[Request], Answer]) -> Any:
    def answered(request: Request) -> Answer | None:
        return refusal(request) if len(request["input"]) > texts else answer(request)

    return answered


def no_base64(status: int, body: object) -> Callable[[Request], Answer]:
    def answered(request: Request) -> Answer:
        return plain(status, body) if request.get("encoding_format") == "base64" else good(request)

    return answered


@dataclass(frozen=True)
class Played:
    """`path` follows the server's root in `base_url`; `requested` is where the request must arrive. `key` is the key
    given, `header` the one that carries it, empty where none may."""

    answer: Callable[[Request], Answer | None]
    path: str = "/v1"
    requested: str = "/v1/embeddings"
    model: str = "bge-m3"
    key: str | None = None
    header: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def azure_like(request: Request) -> Answer:
    return edited(good(request), lambda _place, row: row, usage={"prompt_tokens": 1, "total_tokens": 1})


def gemini(request: Request) -> Answer:
    """protobuf's JSON leaves a zero out."""
    return edited(good(request), lambda place, row: row if place else without_index(place, row))


def ollama(request: Request) -> Answer:
    return edited(floats(request), lambda _place, row: row, usage=None)


def lm_studio(request: Request) -> Answer:
    return edited(floats(request), lambda _place, row: {**row, "index": 0})


def voyage(request: Request) -> Answer:
    """It has no encoding_format "float"."""
    if request.get("encoding_format") == "float":
        return plain(400, {"detail": "Argument 'encoding_format' must be one of: base64, null."})
    return good(request)


def litellm(request: Request) -> Answer:
    answer = edited(good(request), lambda place, row: {**row, "index": str(place), "provider": "x"}, model="alias")
    return answer[0], {"transfer-encoding": "chunked"}, answer[2]


def shuffled(request: Request) -> Answer:
    body = body_of(good(request))
    return plain(200, {**body, "data": body["data"][::-1]})


def openrouter(request: Request) -> Answer:
    return edited(floats(request), lambda _place, row: {**row, "index": None}, id="gen-1", provider="any", error=None)


def nested(request: Request) -> Answer:
    """llama.cpp's own endpoint: a list of rows, each with one row of numbers."""
    return plain(
        200, [{"index": row["index"], "embedding": [row["embedding"]]} for row in body_of(floats(request))["data"]]
    )


def rows_alone(request: Request) -> Answer:
    return plain(200, {"embeddings": [row["embedding"] for row in body_of(floats(request))["data"]]})


def whole_numbers(request: Request) -> Answer:
    """JSON of servers that write 1.0 as 1."""
    return edited(floats(request), lambda _place, row: row, created=1)


VLLM = {
    "object": "error",
    "message": "base64 encoding is not currently supported",
    "type": "BadRequestError",
    "code": 400,
}
FASTAPI = {"detail": [{"loc": ["body", "encoding_format"], "msg": "unexpected value; permitted: 'float'"}]}
TOO_MANY_TEI = plain(413, {"error": "batch size 64 > maximum allowed batch size 32", "error_type": "Validation"})
TOO_MANY_COHERE = plain(400, {"message": "invalid request: total number of texts must be at most 96"})

SERVERS = {
    "OpenAI": Played(good, model="text-embedding-3-small", key="sk-key", header="authorization"),
    "Azure OpenAI": Played(
        azure_like,
        path="/openai/deployments/my-embeddings?api-version=2024-10-21",
        requested="/openai/deployments/my-embeddings/embeddings?api-version=2024-10-21",
        model="my-embeddings",
        key="azure-key",
        header="api-key",
    ),
    "Gemini": Played(
        gemini,
        path="/v1beta/openai/",
        requested="/v1beta/openai/embeddings",
        model="gemini-embedding-001",
        key="gemini-key",
        header="authorization",
    ),
    "vLLM": Played(good),
    "vLLM without base64": Played(no_base64(400, VLLM)),
    "FastAPI without base64": Played(no_base64(422, FASTAPI)),
    "a gateway without base64": Played(no_base64(500, {"error": "encode: unsupported"})),
    "a proxy without base64": Played(no_base64(400, b"<html><title>Bad Request</title></html>")),
    "llama.cpp": Played(good, model="default"),
    "llama.cpp /embedding": Played(nested, model="default"),
    "Ollama": Played(ollama, model="nomic-embed-text"),
    "LM Studio": Played(lm_studio),
    "TEI": Played(at_most(32, lambda _request: TOO_MANY_TEI, good)),
    "Voyage": Played(voyage, model="voyage-3", key="pa-key", header="authorization"),
    "Cohere": Played(
        at_most(96, lambda _request: TOO_MANY_COHERE, floats),
        path="/compatibility/v1",
        requested="/compatibility/v1/embeddings",
        model="embed-v4.0",
        key="cohere-key",
        header="authorization",
    ),
    "LiteLLM": Played(litellm, path="", requested="/embeddings", key="sk-key", header="authorization"),
    "OpenRouter": Played(openrouter, path="/api/v1", requested="/api/v1/embeddings", key="k", header="authorization"),
    "rows out of order": Played(shuffled),
    "embeddings alone": Played(rows_alone),
    "other fields": Played(whole_numbers),
}

UNAUTHORIZED = error(401, "no key")
