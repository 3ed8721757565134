"""Methods of adapters that are written once, for callers and for coroutines. Imports nothing."""

from collections.abc import Callable, Generator
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


class Verb(NamedTuple):
    """A call of one of kameleon's verbs, whose twin for coroutines has an `a` before its name."""

    target: Any
    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]


Steps = Generator[Verb, Any, T]


def verb(target: Any, name: str, *args: Any, **options: Any) -> Verb:
    return Verb(target, name, args, options)


def twins(steps: Callable[P, Steps[T]]) -> Callable[P, T]:
    """Make of a method that yields verbs, and gets what they return, the one that calls them; and beside it the one
    that awaits them, with an `a` before its name."""
    return cast("Callable[P, T]", _Twins(steps))


class _Twins:
    def __init__(self, steps: Callable[..., Steps[Any]]) -> None:
        self._steps = steps

    def __set_name__(self, owner: type, name: str) -> None:
        @wraps(self._steps)
        def call(*args: Any, **options: Any) -> Any:
            steps, reply = self._steps(*args, **options), None
            while True:
                try:
                    each = steps.send(reply)
                except StopIteration as end:
                    return end.value
                reply = getattr(each.target, each.name)(*each.args, **each.options)

        @wraps(self._steps)
        async def awaited(*args: Any, **options: Any) -> Any:
            steps, reply = self._steps(*args, **options), None
            while True:
                try:
                    each = steps.send(reply)
                except StopIteration as end:
                    return end.value
                reply = await getattr(each.target, f"a{each.name}")(*each.args, **each.options)

        setattr(owner, name, call)
        setattr(owner, f"a{name}", awaited)
