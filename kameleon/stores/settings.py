"""What an index was made with, as `kdb_meta` has it: schema version, language, analyser version, keyword search.
Imports `errors` and `analysis`."""

from collections.abc import Mapping

from sqlalchemy import Connection, select

from ..analysis.analyser import VERSION
from ..analysis.languages import NAMES
from ..errors import InvalidInput, SchemaMismatch
from .tables import SCHEMA_VERSION, Tables, check_version

DEFAULT_LANGUAGE = "english"
KEYWORD_SEARCHES = ("index", "server")
"""Where keywords are ranked, the first where nothing is requested: in kameleon's own keyword index, or in the database
server."""
CURATION = "curation"
"""The key of `kdb_meta` whose value is another one after each change of synonyms, query rules and boosts of entities;
empty before."""
PROTECTED_BY = "protected"
"""The key of `kdb_meta` with the setting whose value is the tenant that policies show; absent without policies."""


class Settings:
    """`language` and `keyword_search` are those of the index once it was read; until then those requested, which are
    those of a new index. `protected_by` is the setting that its policies read, empty without policies."""

    def __init__(self, tables: Tables, requested: str | None, keyword_search: str | None = None) -> None:
        if requested is not None:
            check_language(requested)
        if keyword_search not in (None, *KEYWORD_SEARCHES):
            raise InvalidInput(f"unknown keyword_search {keyword_search!r:.80}. Known: {', '.join(KEYWORD_SEARCHES)}")
        self._meta = tables.meta
        self._requested, self._requested_search = requested, keyword_search
        self.language = requested or DEFAULT_LANGUAGE
        self.keyword_search = keyword_search or KEYWORD_SEARCHES[0]
        self.protected_by = ""

    def check(self, connection: Connection, elsewhere: str) -> None:
        """Reads them. Raises SchemaMismatch for another version, InvalidInput for another language or keyword search
        than requested; `elsewhere` names where an index of that language could be."""
        found = self._read(connection)
        check_version(found.get("schema_version"))
        check_analyser(found.get("analyser"))
        self.language = found.get("language", DEFAULT_LANGUAGE)
        self.keyword_search = keyword_search_of(found)
        self.protected_by = found.get(PROTECTED_BY, "")
        if self._requested not in (None, self.language):
            raise InvalidInput(
                f"this index reads texts as {self.language!r}; language={self._requested!r} would not find them. Leave "
                f"language out, or make an index of your own in another {elsewhere}"
            )
        if self._requested_search not in (None, self.keyword_search):
            raise InvalidInput(
                f"this index was made with keyword_search={self.keyword_search!r}. Leave keyword_search out, or change "
                f"it: `kameleon rebuild --keyword-search {self._requested_search}`, or "
                f"kameleon.rebuild(engine, keyword_search={self._requested_search!r})"
            )

    def write(self, connection: Connection) -> None:
        """Stores those of this version, where they differ."""
        wanted = {
            "schema_version": str(SCHEMA_VERSION),
            "language": self.language,
            "analyser": str(VERSION),
            "keyword_search": self.keyword_search,
        }
        present = self._read(connection)
        for key, value in wanted.items():
            if present.get(key) != value:
                connection.execute(self._meta.delete().where(self._meta.c.key == key))
                connection.execute(self._meta.insert(), {"key": key, "value": value})
        if CURATION not in present:
            connection.execute(self._meta.insert(), {"key": CURATION, "value": ""})

    def read_protection(self, connection: Connection) -> str:
        """Reads `protected_by` again, which another process may have changed."""
        self.protected_by = self._read(connection).get(PROTECTED_BY, "")
        return self.protected_by

    def protect(self, connection: Connection, setting: str) -> None:
        """Stores the setting that policies read; an empty one where they are taken off."""
        connection.execute(self._meta.delete().where(self._meta.c.key == PROTECTED_BY))
        if setting:
            connection.execute(self._meta.insert(), {"key": PROTECTED_BY, "value": setting})
        self.protected_by = setting

    def _read(self, connection: Connection) -> Mapping[str, str]:
        return {row.key: row.value for row in connection.execute(select(self._meta))}


def keyword_search_of(settings: Mapping[str, str]) -> str:
    """The keyword search of an index with these."""
    return settings.get("keyword_search", KEYWORD_SEARCHES[0])


def is_current(settings: Mapping[str, str]) -> bool:
    """Whether an index with these is read as it is."""
    return settings.get("schema_version") == str(SCHEMA_VERSION) and settings.get("analyser") == str(VERSION)


def check_language(name: object) -> None:
    """Raises InvalidInput for a language that the analyser does not have."""
    if name not in NAMES:
        raise InvalidInput(f"kameleon has no language {name!r:.80}. It has: {', '.join(sorted(NAMES))}")


def check_analyser(version: str | None) -> None:
    """Raises SchemaMismatch for an index whose terms another version of the analyser made."""
    if version != str(VERSION):
        raise SchemaMismatch(
            f"this index was made by version {version or 'unknown'} of the analyser, this kameleon has {VERSION}. "
            "`kameleon rebuild`, or kameleon.rebuild(engine), makes the index anew from its contents"
        )
