"""Runs another program with a text on its standard input: bounded in time and in output."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ends a program before it ends itself.

    Attributes:
        timeout_s: after how long it is killed.
        output_bytes: after how much output it is killed, and how much of it is returned.
        stop: once set, it is killed as if it were late.
    """

    timeout_s: float
    output_bytes: int
    stop: threading.Event


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended.

    Attributes:
        code: its exit status, negative for a signal.
        out, err: what it wrote, each up to the limit.
        late: whether it was killed for the time it took.
        overlong: whether it was killed for what it wrote.
    """

    code: int
    out: bytes
    err: bytes
    late: bool = False
    overlong: bool = False


def run(
    command: Sequence[str],
    text: str,
    folder: Path,
    env: Mapping[str, str],
    bounds: Bounds,
) -> Ran:
    """Run a program in a folder and return how it ended.

    It leads a process group of its own, which is killed whole where the program is late or
    writes too much, and where this function is left by an exception. Its output goes to files:
    a pipe would stay open for as long as any of its children lives.

    Args:
        command: the program and its arguments.
        text: its standard input.
        folder: where it runs.
        env: its whole environment.
        bounds: when it is killed.

    Raises:
        OSError: it cannot be started.
    """
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(text.encode())
        given.seek(0)
        process = subprocess.Popen(
            command,
            stdin=given,
            stdout=out,
            stderr=err,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
        try:
            late, overlong = _wait(process, (out, err), bounds)
        finally:
            _end(process)
        heads = [os.pread(file.fileno(), bounds.output_bytes, 0) for file in (out, err)]
        return Ran(process.returncode, heads[0], heads[1], late, overlong)


def _wait(
    process: subprocess.Popen[bytes],
    files: Sequence[IO[bytes]],
    bounds: Bounds,
) -> tuple[bool, bool]:
    """Wait for the end; return (late, overlong)."""
    deadline = time.monotonic() + bounds.timeout_s
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_S)
        if any(os.fstat(file.fileno()).st_size > bounds.output_bytes for file in files):
            return False, True
        if process.returncode is not None:
            return False, False
        if time.monotonic() > deadline or bounds.stop.is_set():
            return True, False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group of a program that still runs, and wait for it.

    Once the program itself has been waited for, its number may be another group's.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
