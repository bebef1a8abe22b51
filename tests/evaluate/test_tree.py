"""A tree of processes is seen as a whole: who belongs to it, its memory, its processor time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evaluate.tree import Tree, anonymous_bytes, deleted_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc, on Linux only")

MIB = 1 << 20
FORK = """
import mmap, os, sys, threading
def ready():
    os.write(1, b"ready\\n")
    sys.stdin.read()
    os._exit(0)
def touched(mib):
    return b"x" * (mib << 20)
"""


@contextmanager
def running(body: str, processes: int) -> Iterator[int]:
    """Run a program until `processes` of it said that they are ready; yield the first one's pid."""
    with subprocess.Popen(
        [sys.executable, "-c", FORK + body],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        for _ in range(processes):
            assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.close()
        process.wait()


def test_descendants_of_every_depth_and_thread_are_found() -> None:
    body = """
def fork():
    if os.fork() == 0:
        if os.fork() == 0:
            ready()
        ready()
threading.Thread(target=fork).start()
ready()
"""
    with running(body, 3) as first:
        assert len(Tree(first).processes()) == 2
        assert first in Tree(os.getpid()).processes()
    assert Tree(first).processes() == []


def test_what_each_process_holds_adds_up() -> None:
    body = """
for _ in range(4):
    if os.fork() == 0:
        kept = touched(50)
        ready()
ready()
"""
    with running(body, 5) as first:
        tree = Tree(first)
        assert 200 * MIB < tree.memory_bytes(tree.processes(), 100 * MIB) < 300 * MIB


def test_what_processes_share_counts_once() -> None:
    body = """
kept = touched(200)
for _ in range(4):
    if os.fork() == 0:
        ready()
ready()
"""
    with running(body, 5) as first:
        tree = Tree(first, anonymous_bytes(first))
        assert tree.memory_bytes(tree.processes(), 100 * MIB) < 100 * MIB


def test_memory_that_is_mapped_and_shared_counts() -> None:
    body = """
area = mmap.mmap(-1, 100 << 20)
for _ in range(2):
    if os.fork() == 0:
        area[:] = bytes(100 << 20)
        ready()
ready()
"""
    with running(body, 3) as first:
        tree = Tree(first)
        assert 50 * MIB < tree.memory_bytes(tree.processes(), 20 * MIB) < 150 * MIB


def test_processor_time_is_kept_of_processes_that_are_gone() -> None:
    body = """
import time
if os.fork() == 0:
    while time.process_time() < 0.5: pass
    ready()
ready()
"""
    with running(body, 2) as first:
        tree = Tree(first)
        assert tree.count_cpu(tree.processes()) >= 0.4
    assert tree.count_cpu([]) >= 0.4


def test_files_that_are_deleted_and_still_in_use_are_found(tmp_path: Path) -> None:
    body = f"""
os.chdir({str(tmp_path)!r})
for name in ("open", "mapped", "left"):
    with open(name, "w+b") as file:
        file.write(bytes(3 << 20))
opened, area = open("open"), mmap.mmap(-1, 4096)
libc = __import__("ctypes").CDLL(None)
libc.mmap.restype = __import__("ctypes").c_void_p
fd = os.open("mapped", os.O_RDONLY)
assert libc.mmap(None, 3 << 20, 1, 1, fd, 0)
os.close(fd)  # a mapping alone holds it
os.unlink("open"); os.unlink("mapped")
ready()
"""
    with running(body, 1) as first:
        assert deleted_bytes([first], str(tmp_path)) == 6 * MIB
        assert (
            deleted_bytes([first], str(tmp_path / "elsewhere")) == 3 * MIB
        )  # mapped: by its place
