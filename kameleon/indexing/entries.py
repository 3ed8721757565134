"""Checks records and makes entries of the index from them. Imports `values`, `errors`, `content` and `stores`."""

from collections.abc import Iterable, Mapping

from ..content import FULL, Content, Extent, check_entity, check_id, content_hash, layout_as_text, normalize
from ..errors import InvalidRecord, seen
from ..stores.values import Entry
from ..values import Ref

Contents = Mapping[Ref, Content]


def entries(records: Iterable[tuple[object, object, object]]) -> list[Entry]:
    """Checked entries, the last of a ref winning. Raises InvalidRecord with the position."""
    folded: dict[Ref, Entry] = {}
    for position, record in enumerate(records):
        try:
            entry = checked_entry(record)
        except InvalidRecord as error:
            raise InvalidRecord(f"record {position}: {error}", position=position) from error
        folded[entry.ref] = entry
    return list(folded.values())


def make_entry(
    ref: Ref,
    content: str,
    emphasis: str = "",
    gaps: tuple[int, ...] = (),
    tenant: str = "",
    extent: Extent = FULL,
) -> Entry:
    """Makes an entry with its hash; white space is stored as empty text. A `tenant` replaces the ref's."""
    if tenant and tenant != ref.tenant:
        ref = ref._replace(tenant=tenant)
    if not content or content.isspace():
        return Entry(ref, "", "")
    layout = layout_as_text(gaps, extent) if gaps or extent is not FULL else ""
    hashed = f"{content}\0{layout}" if layout else content
    return Entry(ref, content, content_hash(f"{hashed}\0{emphasis}" if emphasis else hashed), emphasis, gaps, extent)


def checked_entry(record: tuple[object, object, object]) -> Entry:
    if not isinstance(record, tuple | list) or len(record) != 3:
        raise InvalidRecord(f"a record is (entity, id, text), not {seen(record, 80)}")
    entity, id_, text = record
    if not isinstance(text, str):
        raise InvalidRecord(f"the text of {seen(entity, 40)} {seen(id_, 40)} is {type(text).__name__}, not str")
    return make_entry(Ref(check_entity(entity), check_id(id_)), normalize(text))
