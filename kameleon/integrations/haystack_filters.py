"""Haystack's filters as conditions on records. Imports `errors`."""

from datetime import date, datetime
from typing import Any

from ..errors import MissingExtra

try:
    from haystack.errors import FilterError
except ImportError as _error:
    raise MissingExtra("haystack-ai", "haystack") from _error

COMPARISONS = {"==": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte", "in": "$in"}
COMPARISONS |= {"not in": "$nin", "like": "$like", "not like": "$like"}
COMPARISONS |= {"array_contains": "$all", "array_overlaps": "$any"}
"""Those of the last two lines, but for "not in", are PgvectorDocumentStore's."""
LISTS = ("in", "not in", "array_contains", "array_overlaps")
ORDERED = (">", ">=", "<", "<=")
GROUPS = {"AND": "$and", "OR": "$or", "NOT": "$and"}
NOTHING: dict[str, Any] = {"id": {"$in": []}}


def condition(filters: dict[str, Any] | None, *, is_needed: bool = False) -> dict[str, Any]:
    """The `where` of filters. Raises FilterError for what are none, and for none where they are needed."""
    if not filters and is_needed:
        raise FilterError("filters are needed here: delete_all_documents deletes all")
    return _condition(filters) if filters else {}


def _condition(one: Any) -> dict[str, Any]:
    operator, members = (one.get("operator"), one.get("conditions")) if isinstance(one, dict) else (None, None)
    if operator in GROUPS and isinstance(members, list) and members:
        joined = {GROUPS[operator]: [_condition(member) for member in members]}
        return {"$not": joined} if operator == "NOT" else joined
    if operator not in COMPARISONS or "value" not in one or not isinstance(one.get("field"), str):
        raise FilterError(
            f"a filter is {{'field': 'meta.year', 'operator': '>=', 'value': 2020}}, or {{'operator': 'AND', "
            f"'conditions': [...]}}, by the operators {', '.join(COMPARISONS)}, {', '.join(GROUPS)}, not {one!r:.200}"
        )
    field, value = one["field"], one["value"]
    if operator in LISTS and not isinstance(value, list):
        raise FilterError(f"{operator} compares with a list, not {value!r:.60}")
    if operator in ORDERED:
        if value is None:
            return NOTHING
        value = _ordered(operator, value)
    is_own = field in ("id", "content") or field.startswith("meta.")
    compared = {COMPARISONS[operator]: value}
    return {field if is_own else f"meta.{field}": {"$not": compared} if operator == "not like" else compared}


def _ordered(operator: str, value: Any) -> Any:
    """A number or a moment: texts are compared as the dates that they are."""
    try:
        value = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        raise FilterError(f"{operator} compares with a number or a date, not {value!r:.60}") from error
    if isinstance(value, bool) or not isinstance(value, int | float | date):
        raise FilterError(f"{operator} compares with a number or a date, not {value!r:.60}")
    return value
