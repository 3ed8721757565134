"""`kameleon` as the installed script runs it; at its end the peak of its memory in MB is a line on standard error."""

import atexit
import sys
from importlib import import_module

from .memory import peak_mb

if __name__ == "__main__":
    atexit.register(lambda: print(peak_mb(), file=sys.stderr))
    import_module("kameleon_cli.main").main()
