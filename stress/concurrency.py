"""Eight writers and eight readers in processes of their own: no write is lost, no wait is endless."""

from .crowd import gathered
from .report import Arguments, Figures

TRANSACTIONS = 300


def run(args: Arguments) -> Figures:
    """Every process runs TRANSACTIONS transactions, or searches, unless the time is over before."""
    with gathered(args) as (crowd, server):
        crowd.run(transactions=TRANSACTIONS, server=server)
        return crowd.figures()
