"""Ctrl-C, SIGTERM and a closed terminal: the first one asks, a second Ctrl-C interrupts."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that was asked to end before it was done."""


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether to stop: the first signal asks, the second interrupts.

    A closed terminal (SIGHUP) asks, too, however often it is told, and what would be printed there
    is dropped; under nohup it is not heard.
    """
    stopped = False
    terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            raise KeyboardInterrupt
        stopped = True

    def hang_up(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for terminal in terminals:
            os.dup2(nowhere, terminal)  # else every line fails: the terminal is gone
        os.close(nowhere)
        before[signal.SIGHUP] = signal.SIG_IGN  # shell and kernel both tell, one after the other

    before = {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
    try:
        yield lambda: stopped
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
