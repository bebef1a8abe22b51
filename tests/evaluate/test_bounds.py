"""Bounds of a whole tree: which one is passed, and that a look costs little."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluate.bounds import LONGEST_S, WORTH, Bounds, Turn
from evaluate.tree import Tree
from population.task import Limits


def test_processor_time_beyond_what_the_cores_had_to_give_is_a_failure(tmp_path: Path) -> None:
    bounds = Bounds(Limits(), tmp_path)
    assert bounds.cpu(10.0, cores=1, wall_s=10.0) is None
    assert bounds.cpu(19.0, cores=2, wall_s=10.0) is None
    passed = bounds.cpu(19.0, cores=1, wall_s=10.0)
    assert passed is not None and passed[0] == "cpu_limit"


def test_processes_that_nobody_waited_for_count_with_what_was_seen(tmp_path: Path) -> None:
    tree = Tree(guard=1, cpu_s={(2, b"0"): 9.0, (3, b"0"): 9.0})
    passed = Bounds(Limits(), tmp_path, tree).cpu(0.1, cores=1, wall_s=10.0)
    assert passed is not None and passed[0] == "cpu_limit"


@pytest.mark.skipif(sys.platform != "linux", reason="trees are seen on Linux only")
def test_processes_are_counted_where_the_kernel_does_not_refuse_them(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        tree = Tree(os.getpid())
        assert Bounds(Limits(), tmp_path, tree).passed() is None
        passed = Bounds(Limits(processes=0), tmp_path, tree).passed()
        child.kill()
    assert passed is not None and passed[0] == "process_limit"


def test_a_directory_that_is_gone_is_its_candidate_s_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for gone in (tmp_path / "nothing", tmp_path / "file"):
        passed = Bounds(Limits(), gone).left()
        assert passed is not None and passed[0] == "disk_limit"


def test_a_look_that_took_long_is_repeated_later_but_not_too_late() -> None:
    turn = Turn(0.2)
    now = time.monotonic()
    turn.rest(now)
    assert turn.due >= now + 0.2
    turn.rest(now - 0.005)
    assert turn.due >= now + WORTH * 0.005
    turn.rest(now - 60.0)
    assert turn.due <= time.monotonic() + LONGEST_S
