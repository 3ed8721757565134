"""Eight writers and eight readers in processes of their own: nothing is lost, nobody waits in vain."""

import tempfile

from .crowd import WRITERS, Crowd
from .database import database
from .report import Asked, Figures
from .server import serving

READERS = 8
TURNS = 300
SERVER_LATENCY_S = 0.02


def run(asked: Asked) -> Figures:
    """Every process does as many transactions, or searches, unless the time is over before."""
    with (
        database(asked.backend) as engine,
        tempfile.TemporaryDirectory() as folder,
        serving(SERVER_LATENCY_S) as server,
    ):
        crowd = Crowd(engine, asked, folder)
        crowd.run(WRITERS, READERS, turns=TURNS, seconds=asked.seconds, server=server)
        return crowd.figures()
