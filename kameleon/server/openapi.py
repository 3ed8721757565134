"""The OpenAPI 3.1 document, made of the operations of an application's routes. Imports this package alone."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter
from starlette.routing import BaseRoute

from .answers import Problem
from .models import Given
from .operations import Call, Endpoint, Operation
from .reading import LIST, STRUCTURE, forms_of
from .serving import Serving

REFERENCE = "#/components/schemas/{model}"
CONVERTOR = re.compile(r"\{(\w+)(?::\w+)?\}")
"""A parameter of a path, with the name of Starlette's convertor."""
Schemas = Mapping[tuple[str, Any], Any]


def document(call: Call[Given]) -> Mapping[str, Any]:
    """It is made once; the path that the application is below may be another in each request."""
    request = call.request
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = described(call.serving, request.app.routes)
    return {**state.openapi, "servers": [{"url": request.scope.get("root_path") or "/"}]}


def described(serving: Serving, routes: Iterable[BaseRoute]) -> dict[str, Any]:
    endpoints = [route for route in routes if isinstance(route, Endpoint)]
    operations = [operation for endpoint in endpoints for operation in endpoint.operations.values()]
    schemas, definitions = schemas_of(operations)
    paths: dict[str, Any] = {}
    for operation in operations:
        at = paths.setdefault(CONVERTOR.sub(r"{\1}", operation.path), {})
        at[operation.method.lower()] = described_operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": serving.title, "version": version("kameleon")},
        "paths": paths,
        "components": {"schemas": definitions, "responses": {"Problem": PROBLEM}, "securitySchemes": {"token": TOKEN}},
        "security": [{"token": []}] if serving.signs_in else [],
    }


TOKEN = {"type": "http", "scheme": "bearer", "description": "The token that the server was started with."}
PROBLEM = {
    "description": "What was wrong, with the value and the next step.",
    "content": {"application/problem+json": {"schema": {"$ref": REFERENCE.format(model="Problem")}}},
}


def schemas_of(operations: Iterable[Operation]) -> tuple[Schemas, Mapping[str, Any]]:
    """The schema of each body and answer, and those that they refer to by name."""
    types = [Problem, *(type_ for each in operations for type_ in (each.body, each.answer) if type_ is not None)]
    adapters = [(type_.__name__, "validation", TypeAdapter(type_)) for type_ in dict.fromkeys(types)]
    schemas, made = TypeAdapter.json_schemas(adapters, ref_template=REFERENCE)  # type: ignore[arg-type]
    return schemas, made.get("$defs", {})


def described_operation(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    answer = {} if operation.answer is None else schemas[operation.answer.__name__, "validation"]
    found: dict[str, Any] = {
        "operationId": operation_id(operation),
        "summary": operation.summary,
        "parameters": list(parameters_of(operation)),
        "responses": {
            str(status): {"description": "The answer.", "content": {operation.produces: {"schema": answer}}}
            for status in operation.statuses
        }
        | {"default": {"$ref": "#/components/responses/Problem"}},
    }
    if operation.method == "GET":
        found["responses"]["304"] = {"description": "What the client has, by its If-None-Match."}
    if operation.writes:
        found["description"] = "A server without --write refuses it."
    if operation.body is not None:
        schema = schemas[operation.body.__name__, "validation"]
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return found


def operation_id(operation: Operation) -> str:
    return "_".join([operation.method.lower(), *re.findall(r"\w+", CONVERTOR.sub(r"\1", operation.path))])


def parameters_of(operation: Operation) -> Iterator[dict[str, Any]]:
    in_path = set(CONVERTOR.findall(operation.path))
    forms, made = forms_of(operation.parameters), operation.parameters.model_json_schema()
    for name, schema in made.get("properties", {}).items():
        is_in_path = name in in_path
        plain = as_parameter(schema, forms[name])
        shape = {"content": {"application/json": {"schema": plain}}} if STRUCTURE in forms[name] else {"schema": plain}
        yield {
            "name": name,
            "in": "path" if is_in_path else "query",
            "required": is_in_path or name in made.get("required", ()),
            "description": schema.get("description", ""),
            **shape,
        }


def as_parameter(schema: Mapping[str, Any], form: frozenset[str]) -> dict[str, Any]:
    """A field's schema without null and its names; where a list will do, that alone, for one value is a list of one."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    if STRUCTURE not in form and LIST in form:
        kinds = [kind for kind in kinds if kind.get("type") == LIST]
    made = dict(kinds[0]) if len(kinds) == 1 else {"anyOf": kinds}
    default = {} if schema.get("default") is None else {"default": schema["default"]}
    return {name: value for name, value in made.items() if name not in ("title", "description", "default")} | default


OPERATIONS = [Operation("GET", "/api/openapi.json", "Describe this API by OpenAPI 3.1.", document)]
