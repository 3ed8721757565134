"""What the library does, measured: operations with their observers, and OpenTelemetry as one of these. Importing this
loads nothing of OpenTelemetry. Imports `errors`."""

from .instrumenting import Instrumentor as Instrumentor
from .instrumenting import instrument as instrument
from .instrumenting import uninstrument as uninstrument
from .operations import Observer as Observer
from .operations import Operation as Operation
from .operations import current as current
from .operations import observe as observe
from .operations import operation as operation
from .operations import unobserve as unobserve
