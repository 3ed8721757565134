"""Errors as problem details (RFC 9457). Imports `errors`."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

from sqlalchemy import exc
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ..errors import (
    DatabaseLocked,
    DatabaseUnavailable,
    EntityExists,
    InvalidInput,
    KameleonError,
    ModelMismatch,
    NoProvider,
    ProviderError,
    RecordExists,
    RecordMissing,
    ReindexRefused,
    SchemaMismatch,
    SchemaMissing,
    StorageError,
    TextRefused,
    TransactionConflict,
    UnknownEntity,
)

log = logging.getLogger("kameleon.server")

MEDIA_TYPE = "application/problem+json"
RETRY_S = 1
"""How long a client is to wait before it repeats a request that met a lock. Chosen, not measured."""


class ReadOnly(KameleonError):
    def __init__(self) -> None:
        super().__init__("this server is read-only: start it with --write, or make it with app(search, write=True)")


STATUSES: Mapping[type[Exception], int] = {
    UnknownEntity: 404,
    InvalidInput: 400,
    RecordMissing: 404,
    RecordExists: 409,
    EntityExists: 409,
    ReindexRefused: 409,
    ReadOnly: 403,
    DatabaseLocked: 503,
    DatabaseUnavailable: 503,
    TransactionConflict: 503,
    SchemaMissing: 503,
    SchemaMismatch: 503,
    StorageError: 500,
    NoProvider: 409,
    ModelMismatch: 409,
    TextRefused: 400,
    ProviderError: 503,
}
"""Of an error that is of several of these classes the first holds."""


def problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(document, status, headers, MEDIA_TYPE)


def status_of(error: Exception) -> int:
    return next((status for cls, status in STATUSES.items() if isinstance(error, cls)), 500)


def message_of(error: KameleonError) -> str:
    """What a client gets of an error. One that names the database's server is in the log alone."""
    if isinstance(error, DatabaseUnavailable):
        message = "the database does not answer now: see what is stored, and repeat the request"
    elif status_of(error) == HTTPStatus.INTERNAL_SERVER_ERROR:
        message = "the database failed: the server's log has the error"
    else:
        return str(error)
    log.error("%s: %s", type(error).__name__, error, exc_info=error)
    return message


def of_kameleon(_request: Request, error: Exception) -> Response:
    assert isinstance(error, KameleonError)  # noqa: S101 - it is registered for this type
    status, title = status_of(error), type(error).__name__
    retrying = _retrying(error) if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return problem(status, title, message_of(error), retrying)


def _retrying(error: Exception) -> Mapping[str, str]:
    wait = getattr(error, "retry_after_s", None) or RETRY_S
    return {"Retry-After": str(ceil(wait))}


def of_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this type
    phrase, headers = HTTPStatus(error.status_code).phrase, error.headers or {}
    detail = error.detail
    if detail == phrase:
        allowed = f"this path takes {headers['Allow']}" if "Allow" in headers else "nothing is at this path"
        detail = f"{allowed}: /api/openapi.json describes the API"
    return problem(error.status_code, phrase, detail, headers)


def of_pool(_request: Request, _error: Exception) -> Response:
    detail = (
        "all connections to the database were in use for the whole time-out: repeat the request, or make the pool of "
    )
    return problem(503, "TimeoutError", detail + "the engine larger (pool_size)", {"Retry-After": str(RETRY_S)})


def of_disconnect(_request: Request, _error: Exception) -> Response:
    """Nothing reads it: the client ended the connection before the end of its request."""
    return problem(400, "ClientDisconnected", "the request ended before its body did")


def of_anything(_request: Request, error: Exception) -> Response:
    """Starlette raises the error again afterwards, so the server logs it."""
    return problem(500, "InternalError", "the request failed: the server's log has the error")


HANDLERS: Mapping[Any, Any] = {
    KameleonError: of_kameleon,
    HTTPException: of_http,
    ClientDisconnect: of_disconnect,
    exc.TimeoutError: of_pool,
    Exception: of_anything,
}
