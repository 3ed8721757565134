"""Checks the options of a reindex, and describes what they come to. Imports `values`, `errors`, `content`, `embeddings`
and `stores`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from ..content import check_tenants
from ..errors import InvalidInput
from ..stores.catalog import ACTIVE
from ..stores.values import WHOLE, Part
from ..values import ALL_TENANTS, Generation
from .gate import Gate

if TYPE_CHECKING:
    from ..embeddings.provider import EmbeddingProvider
    from ..embeddings.service import EmbeddingService

PhaseProgress = Callable[[str, int, int], None]


class ReindexOptions(TypedDict, total=False):
    """Options of `reindex`.

    The target is `provider` (a name or an object) with its `model` (a name or a folder) and `dimensions`; without
    any of them the engine's provider object, or a build that was interrupted, or the index's own model. If the
    index has that model, what is pending is embedded, of `entities` (names or mapped classes) alone if any are
    given, and of the records of `tenant`, one or several; `force` embeds all of them again. Else a generation is
    built beside the active one, `batch_size` records a transaction, and switched to; `drop_old` then drops the
    others, `in_place` drops them first, and only keywords answer meanwhile.

    `gate`, an overlap@10 or a `kameleon.gate.Gate`, compares what both find before the switch and raises
    GateRefused. `max_minutes` and `max_cost` (at
    `price_per_million` tokens, or the provider's own price) end the run between two batches. `concurrent_index`
    builds PostgreSQL's vector index without making writers wait. `progress(phase, done, total)` counts records, of
    0 in a phase that has none to count.
    """

    provider: "str | EmbeddingProvider | None"
    model: str | None
    dimensions: int | None
    tenant: object
    batch_size: int
    force: bool
    in_place: bool
    drop_old: bool
    concurrent_index: bool
    gate: Gate | float | None
    max_minutes: float | None
    max_cost: float | None
    price_per_million: float | None
    progress: PhaseProgress | None


@dataclass(frozen=True)
class Request:
    """The options, checked."""

    entities: tuple[str, ...] = ()
    provider: "str | EmbeddingProvider | None" = None
    model: str | None = None
    dimensions: int | None = None
    tenant: object = ALL_TENANTS
    batch_size: int = 128
    force: bool = False
    in_place: bool = False
    drop_old: bool = False
    concurrent_index: bool = True
    gate: "Gate | float | None" = None
    max_minutes: float | None = None
    max_cost: float | None = None
    price_per_million: float | None = None
    progress: PhaseProgress | None = None

    def __post_init__(self) -> None:
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise InvalidInput(f"batch_size is a whole number of records from 1 on, not {self.batch_size!r:.40}")
        for name in ("max_minutes", "max_cost", "price_per_million"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InvalidInput(f"{name} is 0 or more, not {value!r:.40}")
        if isinstance(self.gate, int | float):
            object.__setattr__(self, "gate", Gate(overlap=self.gate))
        elif not (self.gate is None or isinstance(self.gate, Gate)):
            raise InvalidInput(f"gate is an overlap@10 from 0 to 1 or a kameleon.gate.Gate, not {self.gate!r:.80}")
        if self.in_place and not self.part.is_whole:
            raise InvalidInput("in_place drops the embeddings of the whole index: name no entity and no tenant")
        if self.in_place and self.gate is not None:
            raise InvalidInput(
                "in_place drops the old embeddings first, so there is nothing for a gate to compare with"
            )
        if self.model is not None and not (self.provider is None or isinstance(self.provider, str)):
            raise InvalidInput("model goes with a provider's name; a provider object has its own")

    @property
    def part(self) -> Part:
        """The records that are meant."""
        return Part(self.entities, check_tenants(self.tenant))

    @property
    def names_a_model(self) -> bool:
        return self.provider is not None or self.model is not None or self.dimensions is not None

    def price(self, provider: "EmbeddingProvider") -> float | None:
        """Of a million tokens: the one that was named, be it 0, before the provider's own."""
        return provider.price_per_million if self.price_per_million is None else self.price_per_million


@dataclass(frozen=True)
class Target:
    """What is to be done: `generation` None is to be made, of the records that are not in `copies` if that is set."""

    service: "EmbeddingService"
    generation: Generation | None
    active: Generation | None
    pending: int
    part: Part = WHOLE
    copies: Generation | None = None

    @property
    def action(self) -> str:
        if self.generation is None or self.generation.state != ACTIVE:
            return "built"
        return "filled" if self.pending else "nothing"
