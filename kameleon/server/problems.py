"""Errors as problem details (RFC 9457). Imports `errors`."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import InvalidInput, KameleonError


def problem(status: int, title: str, detail: str) -> Response:
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(document, status, media_type="application/problem+json")


def of_kameleon(_request: Request, error: Exception) -> Response:
    return problem(400 if isinstance(error, InvalidInput) else 500, type(error).__name__, str(error))


def of_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this type
    return problem(error.status_code, error.detail, "")


HANDLERS: Mapping[Any, Any] = {KameleonError: of_kameleon, HTTPException: of_http}
