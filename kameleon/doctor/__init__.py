"""Finds what is wrong with an index, and repairs it."""

from .examine import Finding as Finding
from .examine import examine as examine
from .examine import is_ok as is_ok
