"""What a forked child of the warm process does: one function per role.

Each gets its part of the trial as plain data and the descriptors that it was lent, and returns an
exit code. All but the reference run in a jail.
"""

import atexit
import contextlib
import gc
import io
import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

from evaluate import wire
from evaluate.compiled import set_up_compiler
from evaluate.guard import be_first_to_go, die_with_parent
from evaluate.sandbox import Jail, enter
from population.errors import EvaluatorError, EvolveError

PACKAGES = Path(__file__).parents[1]


def _redirect(log: int) -> None:
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _jail(spec: dict[str, Any]) -> Jail:
    fields = dict(spec)
    for name in ("readable", "cores", "required", "cards"):
        fields[name] = tuple(fields[name])
    fields["environment"] = tuple((k, v) for k, v in fields["environment"])
    return Jail(**fields)


def candidate(spec: dict[str, Any], fds: list[int]) -> int:
    """Run the artifact as a script inside the jail.

    fds: its socket (0 or 1 of them), its log, where to tell which layers of the sandbox hold. That
    is told before any of its code runs: whoever tells nothing was never jailed.
    """
    *connection, log, told = fds
    _redirect(log)
    jail = _jail(spec["jail"])
    be_first_to_go()
    held = enter(jail)
    os.write(told, " ".join(held).encode())
    os.close(told)
    _renew_thread_pool()
    if connection:
        os.environ["EVOLVE_SOCKET"] = str(connection[0])
    os.environ["EVOLVE_SEED"] = str(spec["seed"])
    if jail.device != "cpu":
        source = (Path(jail.workdir) / spec["artifact"]).read_text("utf-8")
        set_up_compiler(max(1, len(jail.cores)) if _locks() else 1, source)
    tempfile.tempdir = None  # the warm process looked for it outside the jail
    sys.argv = [spec["artifact"]]
    sys.path[:] = [jail.workdir, *(p for p in sys.path if p not in ("", str(PACKAGES)))]
    for name in [name for name in sys.modules if name.split(".")[0] in ("prepare", "evaluate")]:
        if name != "evaluate.sandbox":
            del sys.modules[name]
    try:
        runpy.run_path(str(Path(jail.workdir) / spec["artifact"]), run_name="__main__")
    except SystemExit as end:
        if connection or end.code not in (None, 0):
            raise  # with all that its program holds, so that nothing is torn down before the end
    except MemoryError:
        traceback.print_exc()
        return 99
    if not connection:  # what it leaves is its work
        _end_as_interpreters_do()
    return 0


def _renew_thread_pool() -> None:
    """Let torch replace the thread pool that a fork has left without its threads.

    It would do so where threads are counted first; two threads of a program that come there at
    once end the process (pytorch/pytorch#178535). torch does it by itself after the first fork
    only, and who is jailed was forked twice.
    """
    import torch

    torch.set_num_threads(torch.get_num_threads())


def _end_as_interpreters_do() -> None:
    """Wait for threads, call what is due at the end, write out what open files hold back.

    A forked process ends by `os._exit`, which leaves all that out.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing ends its processes
    atexit._run_exitfuncs()
    for one in gc.get_objects():
        if issubclass(type(one), io.IOBase):
            with contextlib.suppress(OSError, ValueError):  # it is closed
                one.flush()


def _locks() -> bool:
    """Whether processes in this jail can share a lock: without one, torch compiles in one alone."""
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError:
        return False
    return True


def feeder(spec: dict[str, Any], fds: list[int]) -> int:
    """Feed one candidate inside a jail. fds: its socket, the trial's socket."""
    from evaluate.feeder import main as serve

    try:
        enter(_jail(spec["jail"]))
        serve(spec, fds[0], fds[1])
    except EvolveError as error:
        fault = isinstance(error, EvaluatorError)
        told = socket.socket(fileno=fds[1])
        wire.send_event(told, event="unfit", detail=str(error), fault=fault)
    return 0


def scorer(spec: dict[str, Any], fds: list[int]) -> int:
    """Score one hand-in inside a jail. fds: the trial's socket, graph, tensors, log."""
    from evaluate.score import main as score

    _redirect(fds[3])
    be_first_to_go()
    enter(_jail(spec["jail"]))
    score(spec, fds[0], fds[1], fds[2])
    return 0


def command(spec: dict[str, Any], fds: list[int]) -> int:
    """Become the task's scoring command, in a jail of its own. fds: its output, its log."""
    os.dup2(fds[0], 1)
    os.dup2(fds[1], 2)
    be_first_to_go()
    enter(_jail(spec["jail"]))
    try:
        os.execvpe(spec["argv"][0], spec["argv"], dict(os.environ))
    except OSError as error:
        named = spec["argv"][0]
        print(f"{named}: {error.strerror}; see `command` in task.toml", file=sys.stderr, flush=True)
        return 127


def reference(spec: dict[str, Any], fds: list[int]) -> int:
    """Time the reference workload on the trial's cores. fds: the trial's socket."""
    from evaluate.reference import seconds

    die_with_parent()
    if spec["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec["cores"])
    wire.send_event(socket.socket(fileno=fds[0]), seconds=seconds(spec["device"]))
    return 0


ROLES = {
    "candidate": candidate,
    "feeder": feeder,
    "scorer": scorer,
    "command": command,
    "reference": reference,
}
