"""Two harnesses on one machine: a candidate reaches neither the other one nor life after its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from population.individual import Scored
from tests.attacks.attack import FIVE_STEPS
from tests.evaluate.conftest import Trial, program

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="the whole sandbox exists on Linux only"),
]

KILLER = """
import os, time
print("hunting", flush=True)
end = time.monotonic() + 3
while time.monotonic() < end:
    for pid in (-1, 0, *range(2, 1 << 16)):
        try: os.kill(pid, 9)
        except OSError: pass
"""

UNDYING = """
import os
os.execvp("python3", ["python3", "-c",
    "import ctypes, time; ctypes.CDLL(None).prctl(1, 0, 0, 0, 0); time.sleep(60)  # MARK"])
"""


def start(source: str, data: Path) -> subprocess.Popen[str]:
    """Return another harness that has begun a trial of this program."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.attacks.lone_trial", str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(source)
    process.stdin.close()
    process.stdin = None
    return process


@pytest.fixture
def mark() -> Iterator[str]:
    """Return a text by which a process is found; whatever carries it is ended afterwards."""
    text = f"undying {os.getpid()} {time.monotonic_ns()}"
    yield text
    for process in carrying(text):
        process.kill()


def carrying(text: str) -> list[psutil.Process]:
    """Return the processes whose command line holds the text."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if text in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_candidate_that_kills_whatever_it_can_reaches_no_other_trial(
    trial: Trial, text_data: Path
) -> None:
    honest = trial(program(), FIVE_STEPS).outcome
    other = start(program(before_clock=KILLER), text_data)
    while other.poll() is None:
        assert trial(program(), FIVE_STEPS).outcome == honest
    assert isinstance(honest, Scored)
    assert other.communicate()[0].strip() == str(honest)


def test_a_candidate_dies_with_a_harness_that_is_killed(mark: str, text_data: Path) -> None:
    harness = start(UNDYING.replace("MARK", mark), text_data)
    deadline = time.monotonic() + 60
    while not carrying(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert carrying(mark)
    time.sleep(0.5)
    warm = psutil.Process(harness.pid).children()
    for pid in (harness.pid, *(process.pid for process in warm)):
        os.kill(pid, signal.SIGKILL)
    harness.communicate()
    time.sleep(0.5)
    assert carrying(mark) == []
