"""Eight writers and eight readers in processes of their own: nothing is lost, nobody waits in vain."""

from .crowd import gathered
from .report import Arguments, Figures

TRANSACTIONS = 300


def run(args: Arguments) -> Figures:
    """Every process does as many transactions, or searches, unless the time is over before."""
    with gathered(args) as (crowd, server):
        crowd.run(transactions=TRANSACTIONS, server=server)
        return crowd.figures()
