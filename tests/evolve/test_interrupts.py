"""The first Ctrl-C asks, the second one interrupts; a terminal that is closed asks, too."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evolve.interrupts import interruptible

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AT_WORK = """
import os, signal, sys, time
from pathlib import Path
from evolve.interrupts import interruptible

if os.isatty(1):
    os.open(os.ttyname(1), os.O_RDWR)  # from now on it is told when this one is closed
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have said nohup
with interruptible() as interrupted:
    print("at work", flush=True)
    while not interrupted():
        time.sleep(0.01)
    print("to nobody", flush=True)
    print("nor this", file=sys.stderr, flush=True)
Path(sys.argv[1]).write_text("ended cleanly")
"""


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_asks_and_the_second_interrupts(
    first: signal.Signals, second: signal.Signals
) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    with interruptible() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), first)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_closed_terminal_ends_the_work_cleanly_and_what_is_printed_then_is_dropped(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    ours, theirs = os.openpty()
    words = [sys.executable, "-c", AT_WORK, tmp_path / "left"]
    with subprocess.Popen(
        words, stdout=theirs, stderr=theirs, start_new_session=True, cwd=pytestconfig.rootpath
    ) as process:
        os.close(theirs)
        said = b""
        while b"\n" not in said:  # else it may be at the rest of the line when nobody is there
            said += os.read(ours, 100)
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # the shell tells, as the kernel has
        try:
            process.wait(60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert (tmp_path / "left").read_text() == "ended cleanly"


def test_under_nohup_a_closed_terminal_is_not_heard(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    words = ["nohup", sys.executable, "-c", AT_WORK, tmp_path / "left"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=pytestconfig.rootpath
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert (tmp_path / "left").read_text() == "ended cleanly"
