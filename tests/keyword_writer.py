"""A process that writes records and folds them until it is killed: `python -m tests.keyword_writer URL SEED`."""

import random
import sys

import kameleon
from kameleon.keywords.folding import Limits

from .keyword_index import NOTES, Index

WORDS = ["fox", "foxes", "red", "blue", "whale", "a", "all"]


def main(url: str, seed: str) -> None:
    index = Index(kameleon.create_engine(url), Limits(fold_from=4, pack_from=3, most_segments=2), creates=False)
    index.dialect.fold_rows, index.dialect.step_rows = 6, 2
    chance = random.Random(seed)
    while True:
        with index.engine.begin() as connection:
            for _ in range(3):
                index.put(connection, str(chance.randrange(30)), " ".join(chance.choices(WORDS, k=6)))
            index.delete(connection, str(chance.randrange(30)))
        for _ in range(4):
            sys.stdout.write("step\n")
            sys.stdout.flush()
            index.maintenance.step(NOTES)


if __name__ == "__main__":
    main(*sys.argv[1:])
