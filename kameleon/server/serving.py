"""What an application serves, and to whom. Imports `engine`, `errors`, `records` and `values`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from starlette.requests import Request

from ..engine import SearchEngine
from ..errors import InvalidInput
from ..records import RecordStore
from ..values import ALL_TENANTS

TenantOf = Callable[[Request], object]


@dataclass(frozen=True)
class Serving:
    """`search` is read, and written where it `writes`. `tenant` is that of every request, or a function of the request;
    None leaves it to the request's own `tenant`."""

    search: SearchEngine
    writes: bool = False
    tenant: "str | TenantOf | None" = None
    title: str = "kameleon"

    @cached_property
    def records(self) -> RecordStore:
        return RecordStore(self.search)

    def within(
        self, request: Request, tenant: str | Sequence[str] | None = None, *, all_tenants: bool = False
    ) -> dict[str, Any]:
        """The `tenant` that verbs take for a request, or nothing. Raises InvalidInput where it names another one than
        its own."""
        if self.tenant is None:
            if all_tenants:
                return {"tenant": ALL_TENANTS}
            return {} if tenant is None else {"tenant": tenant}
        own = self.tenant(request) if callable(self.tenant) else self.tenant
        if all_tenants or tenant not in (None, own, [own]):
            raise InvalidInput(f"this server answers for the tenant {own!r:.80} alone: leave the tenant out")
        return {"tenant": own}
