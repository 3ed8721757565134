"""All errors of kameleon, as one tree. A message has what failed, the value, and the next step. Imports nothing of
kameleon's.

KameleonError
├── InvalidInput (ValueError)     the call's arguments or a record cannot be taken
│   ├── TenantRequired            a search of what has tenants names none
│   ├── InvalidRecord             a record or its content: names the record and the field
│   ├── InvalidFilter             a `where` with an unknown operator, field or shape
│   └── UnknownEntity             names the entities that exist
├── RecordExists                  an id is already taken, at `position` of the call
├── RecordMissing (LookupError)   no record of that id
├── EntityExists                  an entity of that name was created before
├── ReindexRefused                a generation is not built, or not switched to
│   ├── ReindexRunning            another run holds the lease, or took this one's
│   └── GateRefused               the new model finds other records than `gate` allows
├── StorageError                  an error of the database, translated, with its error as cause
│   ├── SchemaMissing             the database has no tables of kameleon
│   ├── SchemaMismatch            its tables are those of another version of kameleon
│   ├── DatabaseLocked            another writer held a lock for the whole time-out
│   ├── DatabaseUnavailable       no connection to the database's server, or it was lost: try later
│   ├── VectorsUnavailable        PostgreSQL without pgvector, or one too old for this model
│   └── TransactionConflict       another transaction changed the same rows: roll back and repeat
│       └── Outdated              found before anything was written: read again, the transaction can go on
└── ProviderError                 an embedding provider, or the lack of one
    ├── NoProvider                vectors were requested of an engine without a provider
    ├── ModelMismatch             the index holds another model's embeddings
    ├── TextRefused               bad text: this one text, nothing else
    ├── ProviderUnavailable       an outage: try later, nothing is wrong with the texts
    ├── ProviderRefused           refused for all texts: key, quota, wrong dimension or number of vectors
    ├── UnknownProvider (ValueError)
    └── MissingExtra (ImportError)
"""

import re
from collections.abc import Sequence
from typing import Any

MAX_MESSAGE = 2000
"""Bounds the characters of a message. Chosen, not measured."""
SECRETS = r"[\w-]*(?:password|passwd|passphrase|pwd|api[-_]?key|secret|token|credentials?)"
SECRET_NAME = re.compile(SECRETS, re.IGNORECASE)
PARAMETER = re.compile(rf"\b({SECRETS}=)[^\s&'\"`,;)]+", re.IGNORECASE)
PAIR = re.compile(r"(?<![^\s'\"`(])[\w.+-]+:[^\s'\"`@/]+@")  # user:password@host, without a scheme
USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s'\"`]*@", re.IGNORECASE)
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """One line that a terminal shows as it is: what would move its cursor or reverse its text is escaped."""
    return UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def redacted(text: str) -> str:
    """A text without the user and password of URLs in it, and without the values of parameters that name a secret."""
    return PARAMETER.sub(r"\1…", PAIR.sub("…@", USER.sub(r"\1…@", text)))


def is_secret_name(name: str) -> bool:
    """Whether an option or a parameter of this name holds what is never shown."""
    return SECRET_NAME.fullmatch(name) is not None


def is_secret_column(name: str) -> bool:
    """Whether a column of this name, such as password_hash, may hold what is not shown."""
    return SECRET_NAME.search(name) is not None


def shortened(message: str) -> str:
    """A message without its middle where it is too long."""
    if len(message) <= MAX_MESSAGE:
        return message
    start, end = message[: MAX_MESSAGE // 2], message[-MAX_MESSAGE // 3 :]
    return f"{start} … ({len(message) - len(start) - len(end):,} characters left out) … {end}"


def seen(value: object, most: int = 60) -> str:
    """The beginning of a value, for a message. Python shows no number of over 4,300 digits, nor endless nesting."""
    try:
        return f"{value!r:.{most}}"
    except (ValueError, RecursionError):
        return f"a value of {type(value).__name__} too large to show"


class KameleonError(Exception):
    """The root: catch this to catch all of kameleon's own errors. A message is one bounded line without control
    characters and without passwords of URLs, whatever it quotes."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(shortened(redacted(message))))

    def __reduce__(self) -> tuple[Any, ...]:
        return _copied, (type(self), self.args, vars(self))


def _copied(cls: type[KameleonError], arguments: tuple[Any, ...], state: dict[str, Any]) -> KameleonError:
    """Make an error again in another process, or a copy: constructors differ, attributes do not."""
    error = cls.__new__(cls, *arguments)
    super(KameleonError, error).__init__(*arguments)
    vars(error).update(state)
    return error


class InvalidInput(KameleonError, ValueError):
    pass


class InvalidRecord(InvalidInput):
    """`position` is the record's 0-based place in the call, where there is one."""

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class TenantRequired(InvalidInput):
    def __init__(self, *entities: str) -> None:
        has = "has" if len(entities) == 1 else "have"
        super().__init__(
            f"{', '.join(entities)} {has} tenants: name whose records are meant, tenant='…' or search.for_tenant('…'); "
            "tenant=kameleon.ALL_TENANTS means those of all. Commands have --tenant and --all-tenants"
        )


class InvalidFilter(InvalidInput):
    pass


class UnknownEntity(InvalidInput):
    pass


class RecordExists(KameleonError):
    """`position` is the first record of the call whose id is taken, 0-based; nothing of the call was stored."""

    def __init__(self, message: str, *, position: int) -> None:
        super().__init__(message)
        self.position = position


class RecordMissing(KameleonError, LookupError):
    pass


class EntityExists(KameleonError):
    pass


class ReindexRefused(KameleonError):
    pass


class ReindexRunning(ReindexRefused):
    pass


class GateRefused(ReindexRefused):
    pass


class StorageError(KameleonError):
    pass


class SchemaMissing(StorageError):
    pass


class SchemaMismatch(StorageError):
    pass


class DatabaseLocked(StorageError):
    pass


class DatabaseUnavailable(StorageError):
    pass


class VectorsUnavailable(StorageError):
    pass


class TransactionConflict(StorageError):
    pass


class Outdated(TransactionConflict):
    pass


class ProviderError(KameleonError):
    pass


class NoProvider(ProviderError):
    def __init__(
        self,
        message: str = "this engine has no embedding provider: SearchEngine(engine, embedding_provider='static')",
    ) -> None:
        super().__init__(message)


class ModelMismatch(ProviderError):
    pass


class TextRefused(ProviderError):
    """`reason` is one of read_failed, embed_failed, wrong_dimension, not_finite, too_long; or one that leaves the text
    pending: server_error (a tombstone the third time), unavailable (never one). `pieces` are the (start, end, vector)
    of all parts of a text that was too long as a whole."""

    def __init__(
        self, message: str, *, reason: str = "embed_failed", pieces: Sequence[tuple[int, int, Any]] = ()
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.pieces = pieces


class ProviderUnavailable(ProviderError):
    """`retry_after_s` is the wait that the provider requested, None where it gave none; `status` the HTTP status,
    None without an answer."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        status: int | None = None,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.status = status
        self.timed_out = timed_out


class ProviderRefused(ProviderError):
    """`may_be_text`: the refusal may be of these texts alone, as a firewall's 403 is."""

    def __init__(self, message: str, *, may_be_text: bool = False) -> None:
        super().__init__(message)
        self.may_be_text = may_be_text


class UnknownProvider(ProviderError, ValueError):
    pass


class MissingExtra(ProviderError, ImportError):
    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. pip install 'kameleon[{extra}]'")
