"""Finds the boosts that mapped classes are declared with. Imports `search` and `stores`."""

from collections.abc import Sequence

from ..search.boost_sets import ClassBoosts
from ..stores.protocols import Keys
from .columns import ClassFields
from .registry import Mappings


def class_boosts(mappings: Mappings, keys: Keys, names: Sequence[object]) -> tuple[ClassBoosts, ...]:
    """The boosts of the classes of these entities, of every one where none is named."""
    boosted = mappings.boosted()
    wanted = sorted(boosted) if not names else [name for name in map(str, names) if name in boosted]
    found = [mapped for name in wanted if (mapped := mappings.named(name)) is not None]
    return tuple(
        ClassBoosts(
            (mapped.entity,),
            mapped.declaration.boosts,
            ClassFields(mapped, mapped.owner.class_, (mapped.entity,), keys),
        )
        for mapped in found
    )
