"""Processes killed with SIGKILL: what they committed is complete, and another process continues their work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from kameleon.reindex.owners import began, is_alive, machine
from stress.workloads.crashing import Crashing
from stress.workloads.killing import KILL, TERMINATE, Killing
from stress.workloads.small_model import small_model
from stress.workloads.writing import PATHS

KILLS = {"sqlite": 3, "postgresql": 2}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")


@pytest.fixture(params=KILLS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_killed_run_leaves_a_complete_index_and_resumes_with_its_next_batch(
    engine: Engine, backend: str, tmp_path: Path
) -> None:
    crashing = Crashing(engine, tmp_path, rows=600, batch_size=20, seed=7)
    while crashing.kills < KILLS[backend]:
        crashing.round(KILLS[backend] - crashing.kills)
    assert crashing.kills == KILLS[backend]


def test_a_killed_writer_leaves_all_of_a_commit_or_none_of_it(engine: Engine, backend: str, tmp_path: Path) -> None:
    with Killing(engine, tmp_path, small_model(tmp_path), seed=7) as killing:
        for path in PATHS:
            killing.round(path, TERMINATE if (path, backend) == ("batch", "postgresql") else KILL)
        killing.go_on()
    assert killing.kills.total() == len(PATHS)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")
def test_a_killed_process_is_dead_before_its_parent_notices() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = f"{machine()} {process.pid} {began(process.pid)} mark"
        assert is_alive(owner)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_alive(owner) is False
    assert is_alive(owner) is False
