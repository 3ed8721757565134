"""What an application serves, and to whom. Imports `content`, `engine`, `entities`, `errors`, `evaluation`,
`forking`, `records` and `values`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from ..content import check_tenant
from ..engine import SearchEngine
from ..entities import has_made_text, kind_of, named
from ..errors import InvalidInput, seen
from ..evaluation import AnswerCache
from ..forking import lazy
from ..records import RecordStore
from ..values import ALL_TENANTS, SearchResults

KINDS = {"class": "a mapped class", "table": "a table of this database"}
"""What entities are whose rows others write."""

TenantOf = Callable[[Request], object]


def tenant_of_header(name: str) -> TenantOf:
    """A function that reads the tenant of a request from a header that a proxy sets, for `tenant`. A request without it
    is refused: it never has the records of all, or those of no tenant."""

    def tenant(request: Request) -> str:
        values = request.headers.getlist(name)
        if len(values) != 1 or not values[0]:
            raise InvalidInput(
                f"a request has its tenant in one header {name}, not in {len(values)}: the proxy in front of this "
                "server replaces what clients send"
            )
        try:
            return values[0].encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidInput(f"the tenant in the header {name} is text in UTF-8, not {seen(values[0])}") from None

    return tenant


@dataclass(frozen=True)
class Serving:
    """`search` is read, and written where it `writes`. `tenant` is that of every request, or a function of the request;
    None leaves it to the request's own `tenant`."""

    search: SearchEngine
    writes: bool = False
    tenant: "str | TenantOf | None" = None
    title: str = "kameleon"
    signs_in: bool = False
    """Whether a page signs in with a token, and may sign out."""

    def __post_init__(self) -> None:
        if not callable(self.tenant) and self.tenant is not None and not check_tenant(self.tenant):
            raise InvalidInput("the tenant of a server is not empty: leave it out for requests that name theirs")

    @lazy
    def records(self) -> RecordStore:
        return RecordStore(self.search)

    @lazy
    def answers(self) -> AnswerCache:
        """What judged queries found, for evaluations one after another."""
        return AnswerCache()

    def is_stored(self, entity: str) -> bool:
        """Whether an entity is of the record store. Raises UnknownEntity."""
        return named(self.search, [entity]) == [entity] and kind_of(self.search, entity) == "records"

    def with_text(self, found: SearchResults) -> SearchResults:
        """The hits, without the values of those whose text, which a function makes, is not among them."""
        made = {name for name in {hit.entity for hit in found} if has_made_text(self.search, name)}
        found[:] = [replace(hit, data=None) if hit.entity in made else hit for hit in found]
        return found

    def check_stored(self, entity: str) -> None:
        """Raises InvalidInput for a mapped class and for a table, whose rows the application writes."""
        if (kind := KINDS.get(kind_of(self.search, entity) or "")) is not None:
            raise InvalidInput(f"{entity} is {kind}: its rows are written by the application, not here")

    def within(
        self, request: Request, tenant: str | Sequence[str] | None = None, *, all_tenants: bool = False
    ) -> dict[str, Any]:
        """The `tenant` that verbs take for a request, or nothing. Raises InvalidInput where it names another one than
        its own, and where it has none although the server gives each request one."""
        if all_tenants and tenant is not None:
            raise InvalidInput("tenant and all_tenants exclude each other: give one of them")
        if self.tenant is None:
            if all_tenants:
                return {"tenant": ALL_TENANTS}
            return {} if tenant is None else {"tenant": tenant}
        own = check_tenant(self.tenant(request) if callable(self.tenant) else self.tenant)
        if not own:
            raise InvalidInput("this server gives each request its tenant, and this one got none: sign in")
        if all_tenants or tenant not in (None, own, [own]):
            raise InvalidInput(f"this server answers for the tenant {own!r:.80} alone: leave the tenant out")
        return {"tenant": own}
