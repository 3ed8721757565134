"""Eight writers and eight readers in processes of their own: nothing is lost, nobody waits in vain."""

from .crowd import gathered
from .report import Asked, Figures

TURNS = 300


def run(asked: Asked) -> Figures:
    """Every process does as many transactions, or searches, unless the time is over before."""
    with gathered(asked) as (crowd, server):
        crowd.run(turns=TURNS, server=server)
        return crowd.figures()
