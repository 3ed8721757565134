"""The built-in record store: records as JSON, kept in the same transaction as their index. Imports this package
alone."""

from .store import InsertReport as InsertReport
from .store import Record as Record
from .store import RecordStore as RecordStore
