"""The operations of the API: a method of a path, what it takes, what it does and what it answers. Imports `forking`
and `records`.

The routes and the OpenAPI document are both made of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..forking import lazy
from ..records import RecordStore
from .models import Given, OneTenant, Within
from .problems import ReadOnly
from .reading import checked, parameters, parse, read_body
from .replies import Reply, response
from .serving import Serving

G = TypeVar("G", bound=BaseModel)


@dataclass(frozen=True)
class Call(Generic[G]):
    """A request to an operation: `given` are its parameters, or its body where it has one and no parameters; `body` is
    what JSON has of it."""

    serving: Serving
    request: Request
    given: G
    body: Any = None

    @lazy
    def within(self) -> dict[str, Any]:
        """The `tenant` of the verbs, or nothing."""
        given = self.given
        tenant = given.tenant if isinstance(given, Within | OneTenant) else None
        if isinstance(tenant, list) and len(tenant) == 1:
            (tenant,) = tenant
        return self.serving.within(self.request, tenant, all_tenants=isinstance(given, Within) and given.all_tenants)

    @lazy
    def stored(self) -> tuple[RecordStore, dict[str, Any]]:
        """The record store, and the tenant that its verbs take; of a server for one tenant that tenant's, which no
        record leaves, and whose verbs take none."""
        if self.serving.tenant is None:
            return self.serving.records, self.within
        return RecordStore(self.serving.search.for_tenant(**self.within)), {}


@dataclass(frozen=True)
class Operation:
    """`run` gives the JSON document of the answer, or a Reply. `parameters` are in the path and the query string,
    `body` in a JSON body; `answer` is the type of the document. One that `writes` is refused by a server that does
    not."""

    method: str
    path: str
    summary: str
    run: Callable[[Any], Any]
    answer: Any = None
    parameters: type[Given] = Given
    body: type[BaseModel] | None = None
    writes: bool = False
    statuses: tuple[int, ...] = (200,)
    produces: str = "application/json"


class Endpoint(Route):
    """The route of all operations on one path."""

    def __init__(self, serving: Serving, operations: Sequence[Operation]) -> None:
        self.serving = serving
        self.operations = {operation.method: operation for operation in operations}
        super().__init__(operations[0].path, self.answer, methods=list(self.operations))

    async def answer(self, request: Request) -> Response:
        operation = self.operations["GET" if request.method == "HEAD" else request.method]
        if operation.writes and not self.serving.writes:
            raise ReadOnly
        body = await read_body(request) if operation.body else b""
        return await run_in_threadpool(self.run, operation, request, body)

    def run(self, operation: Operation, request: Request, body: bytes) -> Response:
        values = parameters(operation.parameters, request.query_params) | request.path_params
        given = checked(operation.parameters, values)
        content = checked(operation.body, parse(body)) if operation.body else None
        has_body_alone = content is not None and operation.parameters is Given
        made = operation.run(Call(self.serving, request, content if has_body_alone else given, content))
        if not isinstance(made, Reply):
            made = Reply(made, operation.statuses[0], media_type=operation.produces)
        return response(request, made)


def endpoints(serving: Serving, operations: Sequence[Operation]) -> list[Endpoint]:
    """A route for each path, in the order in which they are given."""
    paths = dict.fromkeys(operation.path for operation in operations)
    return [Endpoint(serving, [one for one in operations if one.path == path]) for path in paths]
