"""`kameleon serve`, and the applications that mount `kameleon.server.app`: who is answered, and at which address."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from a2wsgi import ASGIMiddleware
from flask import Flask
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import kameleon
from kameleon import ALL_TENANTS, RecordStore, SearchEngine
from kameleon.errors import InvalidInput, TextRefused
from kameleon.server import app, tenant_of_header
from kameleon.server.running import Prefixed, address_of, is_loopback, listen
from kameleon.server.security import HEADERS
from kameleon.server.sessions import SESSION_S, Sessions
from kameleon.testing import HashProvider

from .conftest import Indexes, Make
from .test_cli import Run, checked
from .test_read_only import lock, plain_user

TOKEN = "correct-horse-battery-staple"  # noqa: S105
PLACE = "http://127.0.0.1:8765"
BOTH = pytest.mark.parametrize("backend", ["sqlite", "postgresql"])


def client(application: ASGIApp, place: str = PLACE, **headers: str) -> TestClient:
    return TestClient(application, place, headers=headers, follow_redirects=False)


def problem_of(answer: Any) -> tuple[int, str]:
    """The status and the title of a problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    return answer.status_code, document["title"]


def found(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def with_notes(search: SearchEngine) -> None:
    search.index_records_batch([("Note", "1", "Wages were not paid"), ("Note", "2", "The lake is frozen")])


def with_memos(search: SearchEngine) -> None:
    for tenant in ("acme", "globex"):
        search.for_tenant(tenant).index_record("Memo", f"of-{tenant}", "wages were not paid")


@pytest.fixture
def notes(indexes: Indexes) -> SearchEngine:
    """Nothing that is tested with it depends on the database."""
    return indexes("sqlite", with_notes)


@pytest.fixture
def memos(indexes: Indexes, backend: str) -> SearchEngine:
    return indexes(backend, with_memos)


SEARCH = "/api/search?query=wages&mode=keyword"


# another site's page


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8765", "localhost:8765", "localhost", "LOCALHOST.", "app.localhost", "[::1]:80", "10.0.0.7"]
)
def test_a_name_that_cannot_be_rebound_is_answered(notes: SearchEngine, host: str) -> None:
    assert found(client(app(notes)).get(SEARCH, headers={"host": host})) == ["1"]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.nip.io", "", "[evil]", "a@127.0.0.1"],
)
def test_another_name_is_refused_at_every_path(notes: SearchEngine, host: str) -> None:
    program = client(app(notes), host=host)
    for path in (SEARCH, "/", "/static/main.js", "/mcp"):
        assert problem_of(program.get(path)) == (421, "HostNotAllowed")


def test_named_hosts_are_answered_besides(notes: SearchEngine) -> None:
    named = client(app(notes, hosts=["search.example"]))
    assert found(named.get(SEARCH, headers={"host": "Search.example:443"})) == ["1"]
    assert found(named.get(SEARCH)) == ["1"]
    assert problem_of(named.get(SEARCH, headers={"host": "evil.example"})) == (421, "HostNotAllowed")
    assert found(client(app(notes, hosts=["*"])).get(SEARCH, headers={"host": "any.example"})) == ["1"]


@pytest.mark.parametrize("host", ["http://search.example", "search.example:80", "", "search.example/path", None])
def test_a_host_is_a_name(notes: SearchEngine, host: Any) -> None:
    with pytest.raises(InvalidInput, match=r"is a name such as search\.example"):
        app(notes, hosts=[host])
    with pytest.raises(InvalidInput, match=r"for one, use hosts=\['search\.example'\]"):
        app(notes, hosts="search.example")


OWN = {"origin": PLACE}
OF_BROWSER = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", **OWN}
FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://127.0.0.1:8765.evil.example"},
    {"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
    {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_what_a_page_of_another_site_requests_is_refused(notes: SearchEngine, headers: dict[str, str]) -> None:
    browser = client(app(notes), **headers)
    for method, path in (("GET", SEARCH), ("POST", "/api/search"), ("OPTIONS", "/mcp")):
        assert problem_of(browser.request(method, path)) == (403, "OriginNotAllowed")


@pytest.mark.parametrize(
    "headers", [{}, OWN, OF_BROWSER, {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}], ids=str
)
def test_its_own_page_and_programs_are_answered(notes: SearchEngine, headers: dict[str, str]) -> None:
    assert found(client(app(notes)).get(SEARCH, headers=headers)) == ["1"]


def test_a_link_from_another_site_is_followed_and_a_form_is_not(notes: SearchEngine) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client(app(notes)).get("/?q=wages", headers=link).status_code == 200
    assert problem_of(client(app(notes)).post("/api/records", headers=link)) == (403, "OriginNotAllowed")


def test_behind_a_proxy_that_changes_the_host_the_name_of_browsers_is_given(notes: SearchEngine) -> None:
    origin = {"origin": "https://search.example"}
    assert problem_of(client(app(notes)).get(SEARCH, headers=origin)) == (403, "OriginNotAllowed")
    assert found(client(app(notes, hosts=["search.example"])).get(SEARCH, headers=origin)) == ["1"]


@pytest.mark.parametrize("path", [SEARCH, "/", "/static/main.js", "/absent", "/api/search?limit=none"])
def test_every_answer_restricts_the_browser(notes: SearchEngine, path: str) -> None:
    answer = client(app(notes)).get(path)
    assert HEADERS.keys() <= answer.headers.keys()
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "set-cookie" not in answer.headers


# the token


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": "Bearer"},
        {"authorization": "Bearer \xfc"},
        {"cookie": f"{Sessions(TOKEN).cookie}={TOKEN}"},
        {"cookie": f"{Sessions(TOKEN).cookie}=9999999999.00"},
        {"cookie": f"{Sessions(TOKEN).cookie}={Sessions(TOKEN).session(-1)}"},
        {"cookie": f"{Sessions(TOKEN).cookie}={Sessions(TOKEN + 'x').session()}"},
        {"cookie": f"{Sessions(TOKEN).cookie}=1{Sessions(TOKEN).session()}"},
    ],
)
def test_without_the_token_nothing_is_answered(notes: SearchEngine, headers: dict[str, str]) -> None:
    given = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    program = client(app(notes, token=TOKEN))
    for path in (SEARCH, "/absent", "/mcp", "/metrics", "/sign-out"):
        answer = program.get(path, headers=given)
        assert problem_of(answer) == (401, "TokenRequired")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_request_brings_the_token_in_its_header_and_not_in_its_address(notes: SearchEngine) -> None:
    application = app(notes, token=TOKEN)
    assert found(client(application, authorization=f"Bearer {TOKEN}").get(SEARCH)) == ["1"]
    assert found(client(application, "http://any.example", authorization=f"bearer {TOKEN}").get(SEARCH)) == ["1"]
    assert problem_of(client(application).get(f"{SEARCH}&token={TOKEN}")) == (401, "TokenRequired")


def test_a_page_signs_in_and_out(notes: SearchEngine) -> None:
    browser = client(app(notes, token=TOKEN), **OWN)
    form = browser.get("/?q=wages&mode=keyword")
    assert (form.status_code, form.headers["cache-control"]) == (401, "no-store")
    assert 'value="q=wages&amp;mode=keyword"' in form.text
    assert browser.get("/static/style.css").status_code == 200
    wrong = browser.post("/sign-in", data={"token": "wrong", "query": "q=wages"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    assert 'role="alert"' in wrong.text
    signed = browser.post("/sign-in", data={"token": TOKEN, "query": "q=a%26b+c&where=%7B%7D"})
    assert (signed.status_code, signed.headers["location"]) == (303, "./?q=a%26b+c&where=%7B%7D")
    cookie = signed.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={SESSION_S}"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert "Secure" not in cookie
    assert found(browser.get(SEARCH)) == ["1"]
    assert browser.get("/").status_code == 200
    assert browser.post("/sign-out").status_code == 303
    assert problem_of(browser.get(SEARCH)) == (401, "TokenRequired")


@pytest.mark.parametrize("form", [b"&".join(b"n%d=1" % n for n in range(500)), b"token=%ff%00", b"\xff" * 9_000])
def test_a_form_of_anything_signs_nobody_in(notes: SearchEngine, form: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    refused = client(app(notes, token=TOKEN)).post("/sign-in", content=form, headers=headers)
    assert refused.status_code == 401
    assert "set-cookie" not in refused.headers


def test_over_https_the_cookie_is_secure_and_another_site_cannot_sign_in(notes: SearchEngine) -> None:
    browser = client(app(notes, token=TOKEN), "https://search.example")
    sent = {"token": TOKEN, "query": "//evil.example\r\nset-cookie: a=b"}
    signed = browser.post("/sign-in", data=sent, headers={"origin": "https://search.example"})
    assert "Secure" in signed.headers["set-cookie"].split("; ")
    assert signed.headers["location"].startswith("./?")
    assert len(signed.headers.get_list("set-cookie")) == 1
    refused = browser.post("/sign-in", data=sent, headers={"origin": "https://evil.example"})
    assert problem_of(refused) == (403, "OriginNotAllowed")


def test_a_link_of_another_site_loads_again_with_the_cookie(notes: SearchEngine) -> None:
    """A browser sends no SameSite=Strict cookie with it."""
    browser = client(app(notes, token=TOKEN))
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert 'http-equiv="refresh"' in browser.get("/?q=wages", headers=link).text
    assert 'http-equiv="refresh"' not in browser.get("/", headers={"sec-fetch-site": "same-origin"}).text


@pytest.mark.parametrize("token", ["", "short", "fifteen letters", "sixteen lëtters!", "sixteen\nletters!", 7])
def test_a_token_that_can_be_guessed_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(InvalidInput, match="16 printable ASCII characters or more") as error:
        Sessions(token)
    assert not token or str(token) not in str(error.value) or token == 7


# tenants


@BOTH
def test_a_server_of_one_tenant_has_no_others_records(memos: SearchEngine) -> None:
    own = client(app(memos, tenant="acme"))
    assert found(own.get(SEARCH)) == found(own.get(f"{SEARCH}&tenant=acme")) == ["of-acme"]
    assert own.get(f"{SEARCH}&tenant=globex").status_code == 400


@BOTH
def test_a_proxy_gives_the_tenant_in_a_header(memos: SearchEngine) -> None:
    application = app(memos, tenant=tenant_of_header("X-Tenant"))
    assert found(client(application).get(SEARCH, headers={"x-tenant": "globex"})) == ["of-globex"]
    assert found(client(application).get(SEARCH, headers={"x-tenant": "nobody"})) == []
    assert client(application).get(f"{SEARCH}&tenant=acme", headers={"x-tenant": "globex"}).status_code == 400
    for headers in ([], [("x-tenant", "")], [("x-tenant", "acme"), ("x-tenant", "globex")]):
        refused = client(application).get(SEARCH, headers=headers)
        assert problem_of(refused) == (400, "InvalidInput")
        assert "one header X-Tenant" in refused.json()["detail"]


def test_a_header_holds_a_tenant_in_utf_8() -> None:
    def tenant(value: bytes) -> object:
        return tenant_of_header("X-Tenant")(Request({"type": "http", "headers": [(b"x-tenant", value)]}))

    assert tenant("müller 北".encode()) == "müller 北"
    with pytest.raises(InvalidInput, match="header X-Tenant is text in UTF-8"):
        tenant(b"m\xfcller")


OTHER = "globex-only"
READS = {
    "/api/count": "/api/count?entity=Memo",
    "/": "/",
    "/api/search": "/api/search?query=wages&explain=true&legs=true&facets=%5B%22owner%22%5D&count=true",
    "/api/similar": "/api/similar?entity=Memo&id=acme-only",
    "/api/suggest": "/api/suggest?text=glo",
    "/api/records": "/api/records?entity=Memo",
    "/api/records/{entity}/{id:path}": "/api/records/Memo/globex-only",
    "/api/entities": "/api/entities",
    "/api/entities/{name}": "/api/entities/Memo",
    "/api/status": "/api/status",
    "/api/failures": "/api/failures",
    "/api/doctor": "/api/doctor",
    "/api/judgements": "/api/judgements",
    "/api/judgements/qrels": "/api/judgements/qrels",
    "/api/judgements/queries": "/api/judgements/queries",
    "/api/openapi.json": "/api/openapi.json",
    "/metrics": "/metrics",
}
"""An address of each path."""


class Refusing(HashProvider):
    """Refuses the other tenant's texts, so that it has failures."""

    def embed_batch(self, texts: Sequence[str]) -> Any:
        if any(OTHER in text for text in texts):
            raise TextRefused("the text is refused")
        return super().embed_batch(texts)


@BOTH
def test_a_tenants_server_shows_nothing_of_another_at_any_path(make: Make) -> None:
    search = make(Refusing())
    records = RecordStore(search)
    records.create_entity("Memo", search=["text"], tenant_field="owner")
    for name in ("acme-only", OTHER):
        records.insert("Memo", [{"id": name, "text": f"wages {name} {name}", "owner": name}])
        search.judgements.set(f"wages {name}", [("Memo", name)], tenant=name)
    assert search.failures(tenant=OTHER)
    application = app(search, tenant="acme-only", write=True)
    served = {route.path for route in application.routes if isinstance(route, Route) and "GET" in (route.methods or ())}
    assert served <= READS.keys()
    answers = {path: client(application).get(address).text for path, address in READS.items()}
    assert "acme-only" in answers["/api/search"]
    assert [path for path, text in answers.items() if OTHER in text] == ["/api/records/{entity}/{id:path}"]
    assert answers["/api/records/{entity}/{id:path}"].count(OTHER) == 1, "the id that was requested"


@pytest.mark.parametrize("given", [None, "", ALL_TENANTS, [], ["acme"], True])
def test_a_function_gives_each_request_one_tenant(notes: SearchEngine, given: Any) -> None:
    answer = client(app(notes, tenant=lambda _: given)).get(SEARCH)
    assert answer.status_code == 400
    assert "tenant" in answer.json()["detail"]


@BOTH
def test_a_tenant_may_be_a_number(search: SearchEngine) -> None:
    search.index_record("Memo", "1", "wages", tenant=7)
    assert found(client(app(search, tenant=lambda _: 7)).get(SEARCH)) == ["1"]
    assert found(client(app(search, tenant=lambda _: 8)).get(f"{SEARCH}&tenant=8")) == []


def test_an_empty_tenant_is_refused(notes: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match="is not empty"):
        app(notes, tenant="")


# mounted in applications


class Accounts(AuthenticationBackend):
    """A host's own authentication: the name of a user in a header."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        if (name := conn.headers.get("x-user")) is None:
            raise AuthenticationError("no user")
        return AuthCredentials(["authenticated"]), SimpleUser(name)


@BOTH
def test_it_mounts_into_starlette_with_its_authentication(memos: SearchEngine) -> None:
    mounted = app(memos, tenant=lambda request: request.user.username, hosts=["app.example"])
    host = Starlette(
        routes=[Mount("/admin/search", mounted)],
        middleware=[Middleware(AuthenticationMiddleware, backend=Accounts())],
    )
    user = client(host, "https://app.example", **{"x-user": "acme"})
    assert found(user.get(f"/admin/search{SEARCH}")) == ["of-acme"]
    assert user.get("/admin/search/").status_code == 200
    assert user.get("/admin/search/static/main.js").status_code == 200
    assert user.get("/admin/search").headers["location"].endswith("/admin/search/")
    assert client(host, "https://app.example").get(f"/admin/search{SEARCH}").status_code == 400


@BOTH
def test_it_mounts_into_flask_over_wsgi(memos: SearchEngine) -> None:
    host = Flask("host")

    def tenant(request: Request) -> object:
        return request.scope["wsgi_environ"]["host.user"]

    mounted: Any = ASGIMiddleware(cast("Any", app(memos, tenant=tenant)))

    def authenticated(environ: dict[str, Any], start: Any) -> Any:
        return mounted(environ | {"host.user": environ["HTTP_X_USER"]}, start)

    host.wsgi_app = DispatcherMiddleware(host.wsgi_app, {"/search": authenticated})  # type: ignore[method-assign]
    with host.test_client() as browser:
        answer = browser.get(f"/search{SEARCH}", headers={"x-user": "globex"})
        assert [hit["id"] for hit in answer.get_json()["hits"]] == ["of-globex"]
        assert browser.get("/search/", headers={"x-user": "globex"}).status_code == 200
        assert browser.get("/search", headers={"x-user": "globex"}).location.endswith("/search/")
        foreign = {"x-user": "globex", "origin": "http://evil.example"}
        assert browser.get(f"/search{SEARCH}", headers=foreign).status_code == 403
    mounted.loop.call_soon_threadsafe(mounted.loop.stop)


@pytest.mark.parametrize("prefix", ["/tools/search", "tools/search/"])
@pytest.mark.parametrize("sent", ["/tools/search", ""], ids=["kept", "removed"])
def test_behind_a_path_prefix_every_address_has_it(notes: SearchEngine, prefix: str, sent: str) -> None:
    application = Prefixed(app(notes, token=TOKEN), prefix)
    browser = client(application, **OWN)
    assert browser.get(f"{sent}/").status_code == 401
    assert browser.get(f"{sent}/static/style.css").status_code == 200
    signed = browser.post(f"{sent}/sign-in", data={"token": TOKEN})
    assert "Path=/tools/search/" in signed.headers["set-cookie"].split("; ")
    user = client(application, authorization=f"Bearer {TOKEN}")
    assert found(user.get(f"{sent}{SEARCH}")) == ["1"]
    assert "//" not in user.get(f"{sent}/").text.replace("http://127.0.0.1:8765/tools/search", "")


def test_the_prefix_alone_leads_to_the_page(notes: SearchEngine) -> None:
    answer = client(Prefixed(app(notes), "/search")).get("/search?q=wages")
    assert (answer.status_code, answer.headers["location"]) == (307, "/search/?q=wages")
    with pytest.raises(InvalidInput, match="a path prefix is a path"):
        Prefixed(app(notes), "//evil.example/..")


# a browser


def is_signed_out(browser: Any) -> bool:
    """Whether the form to sign in is there; else the page's next request is made, if none is under way already."""
    from stress.workloads.browser import shown

    for box in shown(browser, "main input[type=search]"):
        box.send_keys(" paid")
    return bool(shown(browser, "#token"))


def test_a_browser_signs_in_and_has_the_page_of_its_link(notes: SearchEngine, browser: Any) -> None:
    from stress.workloads.browser import serving, shown, until, violations

    with serving(app(notes, token=TOKEN)) as place:
        browser.get(f"{place}/?q=wages&mode=keyword")
        assert violations(browser) == []
        for given, expected in (("wrong", "[role=alert]"), (TOKEN, "header.top")):
            browser.find_element("id", "token").send_keys(given)
            browser.find_element("css selector", "form button").click()
            until(browser, partial(shown, browser, expected))
        assert browser.current_url == f"{place}/?q=wages&mode=keyword"
        until(browser, lambda: "Wages were not paid" in browser.find_element("tag name", "main").text)
        assert browser.execute_script("return document.cookie") == ""
        assert [cookie["sameSite"] for cookie in browser.get_cookies()] == ["Strict"]
        browser.delete_all_cookies()
        until(browser, partial(is_signed_out, browser))
        assert "mode=keyword" in browser.current_url, "the session ended, and the page's state is kept"
        browser.find_element("id", "token").send_keys(TOKEN + "\n")
        until(browser, partial(shown, browser, "header.top"))
        browser.find_element("css selector", "form[action=sign-out] button").click()
        until(browser, lambda: shown(browser, "#token"))
        assert browser.get_cookies() == []


ATTACK = """
    const [place, done] = arguments;
    const json = {"content-type": "application/json"};
    const record = JSON.stringify({entity: "Note", records: [{id: "forged", text: "forged"}]});
    const sent = [
      fetch(`${place}/api/search?query=wages`),
      fetch(`${place}/api/records`, {method: "POST", mode: "no-cors", body: record}),
      fetch(`${place}/api/records`, {method: "POST", headers: json, body: record}),
      fetch(`${place}/api/records/Note/1`, {method: "DELETE"}),
    ];
    Promise.allSettled(sent).then(all => done(all.map(one => one.reason ? "refused" : "answered")));
"""


def stored(records: RecordStore) -> list[str]:
    return sorted(record.id for record in records.list("Note"))


def test_a_page_on_another_port_reads_and_writes_nothing(file_engine: Engine, browser: Any) -> None:
    from stress.workloads.browser import serving

    search = SearchEngine(file_engine, HashProvider())
    records = RecordStore(search)
    records.insert("Note", [{"id": "1", "text": "Wages were not paid"}])
    attacker = Starlette(routes=[Route("/", lambda _: HTMLResponse("<!doctype html><title>attack</title>"))])
    with serving(attacker) as other, serving(app(search, write=True)) as place:
        browser.get(f"{other}/")
        assert browser.execute_async_script(ATTACK, place) == ["refused"] * 4
        assert stored(records) == ["1"]
        browser.get(f"{place}/")
        assert browser.execute_async_script(ATTACK, place) == ["answered"] * 4
        assert stored(records) == ["forged"]


# the command


@pytest.fixture
def run(command: Callable[..., Any]) -> Run:
    return checked(command)


@contextmanager
def served(*command: str, **options: Any) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address that `kameleon serve` prints, and its process."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--port", "0", "--json"], **pipes, **options) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            yield json.loads(line)["url"], process
        finally:
            process.kill()


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as opened:
        yield opened


@pytest.mark.parametrize(("backend", "number"), [("sqlite", signal.SIGTERM), ("postgresql", signal.SIGINT)])
def test_the_command_serves_until_a_signal(
    search: SearchEngine, console_script: str, number: int, http: httpx.Client
) -> None:
    with_notes(search)
    url = search.engine.url.render_as_string(hide_password=False)
    with served(console_script, "serve", env={**os.environ, "KAMELEON_URL": url, "KAMELEON_TOKEN": TOKEN}) as (
        place,
        process,
    ):
        assert http.get(place).status_code == 401
        assert found(http.get(f"{place}{SEARCH[1:]}", headers={"authorization": f"Bearer {TOKEN}"})) == ["1"]
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")


def test_it_serves_a_file_in_a_read_only_folder(console_script: str, http: httpx.Client, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    engine = kameleon.create_engine(f"sqlite:///{folder / 'app.db'}")
    SearchEngine(engine, "static").index_record("Note", "1", "Wages were not paid")
    engine.dispose()
    lock(folder)
    try:
        command = plain_user(console_script, "-d", f"sqlite:///{folder / 'app.db'}", "serve")
        with served(*command, cwd=folder) as (place, _):
            assert found(http.get(f"{place}{SEARCH[1:]}")) == ["1"]
    finally:
        folder.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
def test_from_a_terminal_with_a_screen_it_opens_a_browser(console_script: str, tmp_path: Path) -> None:
    """$BROWSER is what Python's `webbrowser` runs: here it writes the address to a pipe that this test reads."""
    pipe = tmp_path / "opened"
    os.mkfifo(pipe)
    opened = os.open(pipe, os.O_RDWR)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {pipe}\n')
    browser.chmod(0o755)
    controller, terminal = os.openpty()
    environment = {**os.environ, "DISPLAY": ":99", "BROWSER": str(browser)}
    command = [console_script, "-d", f"sqlite:///{tmp_path / 'app.db'}", "serve", "--write", "--port", "0"]
    with subprocess.Popen(command, stdout=terminal, env=environment) as process, httpx.Client(trust_env=False) as http:
        try:
            assert select.select([opened], [], [], 60)[0], "no browser was opened"
            place = os.read(opened, 1000).decode().strip()
            assert f"serving {place}. Ctrl-C ends it" in os.read(controller, 1000).decode()
            assert http.get(place).status_code == 200
        finally:
            process.kill()
            for number in (opened, controller, terminal):
                os.close(number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "open to other machines: give a token"),  # noqa: S104
        (["--host", "::"], "open to other machines: give a token"),
        (["--host", "search.example"], "open to other machines: give a token"),
        (["--token", "x", "--token-file", "y"], "--token and --token-file exclude each other"),
        (["--tenant", "x", "--tenant-header", "y"], "--tenant and --tenant-header exclude each other"),
    ],
)
def test_an_open_server_without_a_token_is_refused(run: Run, arguments: list[str], message: str) -> None:
    assert message in run("serve", *arguments, status=2).stderr


def test_what_cannot_be_served_is_one_line_with_the_next_step(run: Run, tmp_path: Path) -> None:
    assert "no database at kameleon.db" in run("serve", status=1).stderr
    run("data", "insert", "Note", '{"id": "1", "text": "Wages"}')
    (tmp_path / "token").write_text("short\n")
    assert "16 printable ASCII characters or more" in run("serve", "--token-file", "token", status=1).stderr
    (tmp_path / "binary").write_bytes(b"\x9a" * 40)
    assert "'binary' is not ASCII text" in run("serve", "--token-file", "binary", status=2).stderr
    assert "No such file" in run("serve", "--token-file", "absent", status=1).stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("serve", "--port", str(port), status=1).stderr
    step = "Name another with --port, or --port 0 for a free one"
    assert refused == f"Error: cannot listen at '127.0.0.1' port {port}: address already in use. {step}\n"
    for host in ("203.0.113.7", "absent.invalid"):
        refused = run("serve", "--host", host, "--token", TOKEN, status=1).stderr
        assert f"cannot listen at {host!r} port 8765" in refused
        assert refused.endswith("Name an address of this machine, such as --host 127.0.0.1\n")


def test_addresses_are_those_of_a_browser() -> None:
    for host, address in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")):  # noqa: S104
        with listen(host, 0) as listening:
            port = listening.getsockname()[1]
            assert address_of(listening, "/a/b/") == f"http://{address}:{port}/a/b/"
            assert address_of(listening) == f"http://{address}:{port}/"
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "")] == [False] * 5  # noqa: S104


def test_without_the_extra_the_command_names_it(console_script: str, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['starlette'] = None; import kameleon_cli.main as m; sys.argv[1:] = ['serve']; m.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "pip install 'kameleon[server]'" in done.stderr
