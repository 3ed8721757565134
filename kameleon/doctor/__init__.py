"""Finds what is wrong with an index, and repairs it."""

from .examination import Finding as Finding
from .examination import examine as examine
from .examination import is_ok as is_ok
