"""How much memory a process took; it imports little, so that it adds little."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_mb() -> int:
    """Of this process. Linux counts `ru_maxrss` from the parent's peak on, so it is read only elsewhere."""
    if STATUS.is_file():
        (row,) = (row for row in STATUS.read_text().splitlines() if row.startswith("VmHWM:"))
        return round(int(row.split()[1]) / 1024)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2))
