"""What is in the index: /api/entities, /api/status, /api/failures and /api/doctor. Imports `documents`, `engine`,
`entities`, `doctor`, `errors` and `values`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from ...doctor import examine
from ...documents import facets_document, run_document
from ...engine import SearchEngine
from ...entities import count_values, describe
from ...errors import InvalidInput, UnknownEntity, seen
from ...values import BUILDING, Generation, ReindexRun
from ..answers import EntitiesAnswer, EntityAnswer, FailuresAnswer, FindingsAnswer, StatusAnswer
from ..models import EntityRequest, FailuresRequest, Within
from ..operations import Call, Operation


def entities(call: Call[Within]) -> Mapping[str, Any]:
    found = describe(call.serving.search, **call.within)
    return {"entities": [asdict(one) for one in found]}


def entity(call: Call[EntityRequest]) -> Mapping[str, Any]:
    """An entity with the values of its fields that most records have."""
    search, name = call.serving.search, call.given.name
    found = next((one for one in describe(search, **call.within) if one.name == name), None)
    if found is None:
        raise UnknownEntity(f"unknown entity {seen(name)}. See those there are: /api/entities")
    return {**asdict(found), "values": facets_document(count_values(search, found, **call.within))}


def status(call: Call[Within]) -> Mapping[str, Any]:
    search, generations = call.serving.search, call.serving.search.generations()
    of_one = call.serving.tenant is not None
    return {
        "version": version("kameleon"),
        "writes": call.serving.writes,
        "namespace": search.namespace,
        "entities": [asdict(one) for one in search.get_status(**call.within)],
        "generations": [generation(call, one) for one in generations],
        **(OF_ONE_TENANT if of_one else of_all_tenants(search, generations)),
    }


def unfinished(search: SearchEngine, generations: Iterable[Generation]) -> ReindexRun | None:
    """The run that a process works at, else one that ended before its generation was complete."""
    building = {one.number for one in generations if one.state == BUILDING}
    runs = [run for run in search.reindexing.status() if run.owner is not None or run.generation in building]
    return max(runs, key=lambda run: (run.owner is not None, run.generation), default=None)


OF_ONE_TENANT: Mapping[str, Any] = {"reindex": None, "cache": [], "size": None, "tenants": []}


def of_all_tenants(search: SearchEngine, generations: Iterable[Generation]) -> Mapping[str, Any]:
    """Totals, which a server of one tenant does not answer."""
    run = unfinished(search, generations)
    return {
        "reindex": run and run_document(run),
        "cache": [asdict(one) for one in search.cache.status()],
        "size": asdict(search.admin.sizes()),
        "tenants": [asdict(one) for one in search.admin.tenants()],
    }


def generation(call: Call[Any], one: Generation) -> Mapping[str, Any]:
    own = {name: value for name, value in asdict(one).items() if name != "options"}
    return {**own, "vector_index": call.serving.search.admin.vector_index(one)}


def failures(call: Call[FailuresRequest]) -> Mapping[str, Any]:
    found = call.serving.search.failures(**call.within)
    entity = call.given.entity
    return {"failures": [asdict(one) for one in found if entity in (None, one.entity)]}


def doctor(call: Call[Within]) -> Mapping[str, Any]:
    if call.serving.tenant is not None:
        raise InvalidInput("the doctor examines the whole index, and this server is for one tenant: `kameleon doctor`")
    return {"findings": [asdict(one) for one in examine(call.serving.search, **call.within)]}


ENTITY = "/api/entities/{name}"
OPERATIONS = [
    Operation("GET", "/api/entities", "List the entities and their fields.", entities, EntitiesAnswer, Within),
    Operation("GET", ENTITY, "Show an entity and its most frequent values.", entity, EntityAnswer, EntityRequest),
    Operation("GET", "/api/status", "Show what is in the index.", status, StatusAnswer, Within),
    Operation("GET", "/api/failures", "List refused records.", failures, FailuresAnswer, FailuresRequest),
    Operation("GET", "/api/doctor", "List what is wrong with the index.", doctor, FindingsAnswer, Within),
]
