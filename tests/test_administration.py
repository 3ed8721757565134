"""What operators see of an index: its sizes, and its tenants."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from kameleon import SearchEngine
from kameleon.errors import InvalidInput
from kameleon.values import TenantStatus


def test_sizes_are_of_the_database_and_its_tables(search: SearchEngine, engine: Engine) -> None:
    search.index_record("Note", 1, "the red fox")
    before = search.admin.sizes()
    search.index_records_batch([("Note", str(number), f"{number} hounds " * 300) for number in range(200)])
    after = search.admin.sizes()
    assert after.database > before.database > 0
    if engine.dialect.name == "sqlite":
        assert after.tables == {}
        return
    assert after.tables["kdb_search"] > before.tables["kdb_search"] > 0
    assert list(after.tables.values()) == sorted(after.tables.values(), reverse=True)
    assert {name[:4] for name in after.tables} == {"kdb_"}


def test_the_tenants_with_most_records_are_first(search: SearchEngine) -> None:
    search.index_record("Shared", 1, "no tenant's")
    for tenant, count in (("a", 1), ("b", 3), ("c", 1)):
        search.for_tenant(tenant).index_records_batch([("Note", str(number), "fox") for number in range(count)])
    assert search.admin.tenants() == [TenantStatus("b", 3), TenantStatus("a", 1), TenantStatus("c", 1)]
    assert search.admin.tenants(1) == [TenantStatus("b", 3)]
    with pytest.raises(InvalidInput, match="the number of tenants, 1 or more, not 0"):
        search.admin.tenants(0)


def test_the_command_lists_tenants(file_engine: Engine, command: Callable[..., Any]) -> None:
    search = SearchEngine(file_engine)
    for tenant, count in (("a", 1), ("b", 3)):
        search.for_tenant(tenant).index_records_batch([("Note", str(number), "fox") for number in range(count)])
    environment = {"KAMELEON_URL": str(file_engine.url)}
    assert command("tenants", "list", "--limit", "1", environment=environment).stdout == "b\t3\n"
    listed = json.loads(command("tenants", "list", "--json", environment=environment).stdout)
    assert listed == {"tenants": [{"tenant": "b", "indexed": 3}, {"tenant": "a", "indexed": 1}]}
