"""The guard of a jailed process: a parent outside the jail that sees the whole tree die."""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

from evaluate.tree import Tree

_PR_SET_PDEATHSIG, _PR_SET_SUBREAPER = 1, 36
_LINUX = sys.platform == "linux"


def unset_signals() -> None:
    """Give back every signal that the forking process had taken."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends; a change of uid forgets that."""
    if not _LINUX:
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def be_first_to_go() -> None:
    """Let the kernel end this process before any other when the machine runs out of memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def fork_guarded() -> None:
    """Fork; the parent guards and never returns, the child returns and goes on into the jail.

    The guard ends when the child has ended, with its status; on SIGTERM it kills the whole tree
    first.
    """
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    child = os.fork()
    if child:
        _guard(child)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGCHLD})
    os.setpgid(0, 0)  # a signal to its own group shall not reach the guard
    die_with_parent()


def _guard(child: int) -> None:
    """Wait for the child or for SIGTERM, kill whatever is left of its tree, exit as it did."""
    status = None
    while status is None:
        received = signal.sigwait({signal.SIGTERM, signal.SIGCHLD})
        if received == signal.SIGTERM:
            break
        while status is None:
            pid, found = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                status = found
    if status is None:
        _kill_at_once(child)
        _, status = os.waitpid(child, 0)
    _sweep(child)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _kill_at_once(child: int) -> None:
    """Kill the child, then its descendants: the kernel does so only when its memory is given back.

    That takes a moment which the child chooses by its size, and they would go on meanwhile.
    """
    os.kill(child, signal.SIGKILL)
    _kill_below(child)


def _sweep(child: int) -> None:
    """Kill every descendant that is left; in a pid namespace there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    while True:
        _kill_below(os.getpid())
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _kill_below(parent: int) -> None:
    for pid in Tree(parent).processes():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
