"""Reads what a request gives: a query string or a JSON body, as a model has it. Imports `errors`."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..errors import InvalidInput, seen
from .models import PYTHON_ALONE, Given

MAX_BODY = 16 * 2**20
"""Bounds the bytes of a body. Chosen, not measured."""
STRUCTURE, LIST = "object", "array"
TEXT = frozenset({"string"})
SUBJECT = re.compile(r"^\w+ should ")
"""What a message of Pydantic begins with."""
OBJECT = re.compile(r"a valid dictionary( or instance of \w+)?")
"""What Pydantic calls an object of JSON."""
OF_NAMES = ("missing", "extra_forbidden")
"""Faults of a name, not of its value."""
MAX_PROBLEMS = 3
"""Bounds the faults of a request that a message names. Chosen, not measured."""

G = TypeVar("G", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """Raises HTTPException for a body that is too large or of another type."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise HTTPException(415, f"send the body as application/json, not {seen(media)}")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"a body has {MAX_BODY:,} bytes at most: send the records in several requests")
    return bytes(body)


def parse(text: str | bytes, what: str = "the body") -> Any:
    """Raises InvalidInput for what is no JSON, and for numbers and texts that JSON cannot have."""
    try:
        return from_json(text, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is no JSON: {error}") from None


def checked(model: type[G], values: Mapping[str, Any]) -> G:
    """Raises InvalidInput."""
    if not isinstance(values, Mapping) and not (issubclass(model, RootModel) and isinstance(values, list)):
        raise InvalidInput(f"the body is a JSON object, not {seen(values)}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidInput("; ".join(explained(error.errors(include_url=False), model.model_fields))) from None


def explained(faults: Sequence[Any], known: Iterable[str]) -> Iterator[str]:
    """The first faults by the names of what they are in; of what may be of several types, all of them at once."""
    by_place: dict[str, list[Any]] = {}
    for fault in faults:
        by_place.setdefault(place_of(fault), []).append(fault)
    for place, same in list(by_place.items())[:MAX_PROBLEMS]:
        yield _explained(place, same, known)


def place_of(fault: Any) -> str:
    where, *inner = fault["loc"] or ("the body",)
    if "[key]" in inner:
        return "a field's name"
    place = f"{where!s:.80}" + "".join(f"[{part}]" for part in inner if isinstance(part, int))
    names = [part for part in inner if isinstance(part, str)]
    return f"{place}.{names[0]:.80}" if len(names) == 1 and fault["type"] in OF_NAMES else place


def _explained(place: str, faults: Sequence[Any], known: Iterable[str]) -> str:
    kind = faults[0]["type"]
    if kind == "missing" and len(faults) == 1:
        return f"{place} is missing"
    if kind == "extra_forbidden" and place in PYTHON_ALONE:
        return f"{place} takes an object of Python, which JSON cannot have: leave it out, or search in Python"
    if kind == "extra_forbidden":
        return f"unknown name {seen(place)}" + ("" if "." in place else f". Known: {', '.join(known)}")
    wanted = dict.fromkeys(_wanted(fault) for fault in faults)
    return f"{place} should {', or '.join(wanted)}, not {seen(faults[0]['input'])}"


def _wanted(fault: Any) -> str:
    if fault["type"] == "missing":
        return f"have {fault['loc'][-1]}"
    return OBJECT.sub("an object", SUBJECT.sub("", fault["msg"]))


def parameters(model: type[Given], given: Any) -> dict[str, Any]:
    """The values of a query string by the types that the model has. Raises InvalidInput."""
    found: dict[str, Any] = {}
    forms = forms_of(model)
    for name in given:
        form, values = forms.get(name, TEXT), given.getlist(name)
        if LIST in form and STRUCTURE not in form:
            found[name] = values if len(values) > 1 or not form & TEXT else values[0]
        elif len(values) > 1:
            raise InvalidInput(f"{name[:80]} is given {len(values)} times: give it once")
        else:
            found[name] = _read(name, form, values[0])
    return found


def _read(name: str, form: frozenset[str], text: str) -> Any:
    if STRUCTURE in form:
        return parse(text, name)
    return text if form & TEXT else literal(text)


def literal(text: str) -> Any:
    """A number or a boolean as JSON has it; else the text, which is then refused."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        return text


@cache
def forms_of(model: type[Given]) -> Mapping[str, frozenset[str]]:
    """How a query string has each field: by the types of JSON that it takes."""
    return {name: frozenset(_forms(schema)) for name, schema in model.model_json_schema().get("properties", {}).items()}


def _forms(schema: Mapping[str, Any]) -> Iterator[str]:
    for one in schema.get("anyOf", [schema]):
        kind = one.get("type", STRUCTURE)
        items = set(_forms(one.get("items", {}))) if kind == LIST else set()
        yield STRUCTURE if STRUCTURE in items else kind
