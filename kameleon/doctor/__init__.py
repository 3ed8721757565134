"""Whether an index holds what its tables do. Imports this package alone."""

from .examination import examine as examine
from .findings import Finding as Finding
from .findings import is_ok as is_ok
