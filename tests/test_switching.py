"""An engine that was open before goes on searching and writing while the index moves to another model and back."""

import os
import random
from pathlib import Path

import pytest

from kameleon import SearchEngine
from kameleon.values import BATCH_GENERATED

from .conftest import Make
from .small_model import small_model

ROWS = 400
WORDS = (
    "river",
    "mountain",
    "winter",
    "summer",
    "music",
    "teacher",
    "hospital",
    "engine",
    "letter",
    "garden",
    "bridge",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(search: SearchEngine) -> None:
    chance = random.Random(7)
    search.index_records_batch([("Record", str(n), " ".join(chance.choices(WORDS, k=8))) for n in range(ROWS)])


def test_what_was_embedded_before_a_switch_and_is_written_after_it_is_embedded_by_the_new_model(
    make: Make, tmp_path: Path
) -> None:
    small = str(small_model(tmp_path))
    search, mover = make("static"), make("static")
    fill(search)
    moved = list[str]()

    def move_once(_event: str, _figures: object) -> None:
        if not moved:
            moved.append(mover.reindex(model=small).model)

    search.on(BATCH_GENERATED, move_once)
    search.index_record("Record", "late", "a captain of the ocean")
    assert moved == ["static-en-32"]
    assert [status.pending for status in search.get_status()] == [0]
    assert search.search("captain ocean", mode="vector", limit=1)[0].id == "late"


def test_a_model_whose_files_are_others_now_leaves_embeddings_pending(make: Make, tmp_path: Path) -> None:
    small = small_model(tmp_path)
    make("static").reindex(model=str(small))
    make("static").index_record("Record", "early", "a captain of the ocean")
    with (small / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    search = make("static")
    with pytest.warns(UserWarning, match="stay pending: the index holds embeddings of static-en-32"):
        search.index_record("Record", "late", "a teacher in the garden")
    assert [(status.indexed, status.pending) for status in search.get_status()] == [(2, 1)]
