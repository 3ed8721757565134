"""Checks the token of a server, in a header or in the cookie of a page that signed in with it. Imports `errors`.

The cookie holds its end and a MAC of it under the token, so that nothing is stored, any of several processes can check
it, and another token ends all sessions. It is set only where a server has a token.
"""

import hashlib
import hmac
import time
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ..errors import InvalidInput
from .page import TEMPLATES

SHORTEST_TOKEN = 16
"""Characters of a token at least, so that trying all is no way in. Chosen, not measured."""
SESSION_S = 12 * 3600
"""Bounds how long a page stays signed in. Chosen, not measured."""
MAX_FORM = 4096
"""Bounds the bytes of a sign-in form. Chosen, not measured."""


class Sessions:
    """Raises InvalidInput for a token that is too short, or that a header cannot carry."""

    def __init__(self, token: str) -> None:
        if not (isinstance(token, str) and len(token) >= SHORTEST_TOKEN and token.isascii() and token.isprintable()):
            raise InvalidInput(
                f"a token is {SHORTEST_TOKEN} printable ASCII characters or more. Make one: "
                'python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        self._token = token
        self._key = hashlib.sha256(b"kameleon session " + token.encode()).digest()
        self.cookie = f"kameleon-{self._mac('cookie')[:8]}"

    def _mac(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def admits(self, request: Request) -> bool:
        """Whether a request has the token, or the cookie of a session that has not ended."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return self.is_session(request.cookies.get(self.cookie, ""))

    def is_session(self, value: str) -> bool:
        end, _, mac = value.partition(".")
        is_made_here = hmac.compare_digest(mac.encode(), self._mac(end).encode())
        return is_made_here and int(end) > time.time()

    def session(self, lasts_s: float = SESSION_S) -> str:
        end = str(int(time.time() + lasts_s))
        return f"{end}.{self._mac(end)}"

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/sign-in", lambda _request: RedirectResponse("./"), methods=["GET"]),
            Route("/sign-in", self.sign_in, methods=["POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
        ]

    async def sign_in(self, request: Request) -> Response:
        form = parse_qs(await body_of(request, MAX_FORM))
        query = form.get("query", [""])[0]
        if not self.is_token(form.get("token", [""])[0].strip()):
            return sign_in_page(request, query, is_wrong=True)
        answer = RedirectResponse(f"./?{query}" if query else "./", 303)
        answer.set_cookie(
            self.cookie,
            self.session(),
            max_age=SESSION_S,
            path=request.scope.get("root_path", "") + "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        answer = RedirectResponse("./", 303)
        answer.delete_cookie(self.cookie, path=request.scope.get("root_path", "") + "/")
        return answer


def sign_in_page(request: Request, query: str | None = None, *, is_wrong: bool = False) -> Response:
    """The form. A browser that followed a link of another site did not send the cookie: the page loads again, as its
    own site's."""
    context = {
        "query": request.url.query if query is None else query,
        "is_wrong": is_wrong,
        "is_linked": request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_wrong,
    }
    answer = TEMPLATES.TemplateResponse(request, "sign_in.html", context, status_code=401)
    answer.headers["cache-control"] = "no-store"
    assert isinstance(answer, HTMLResponse)  # noqa: S101 - what templates make
    return answer


async def body_of(request: Request, most: int) -> str:
    """The beginning of a body, `most` bytes at most."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            break
    return body[:most].decode("ascii", "replace")


def path_of(request: Request) -> str:
    """Without the prefix that the application is mounted at."""
    return str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
