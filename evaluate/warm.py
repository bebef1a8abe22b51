"""A warm process: torch imported and exercised once, then forked for every role.

    trial --control socket--> warm --fork--> candidate | feeder | scorer | reference

It has one thread and an environment from an allow-list, holds no data and no keys, and ends with
its children when its owner goes away. Forking saves the 4 s that a cold torch costs each process.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evaluate import wire
from evaluate.roles import PACKAGES, ROLES

PASSED_ON = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TZ")


def environment(threads: int) -> dict[str, str]:
    """Return the environment of the warm process: an allow-list, thread counts fixed."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    counts = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
    )
    return {
        **passed,
        **counts,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(PACKAGES),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # else a look for a GPU spoils it for every fork
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as nvidia-smi and Ray count them
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS: forks here have one thread
    }


@dataclass(slots=True)
class Exit:
    """How a forked process ended.

    Attributes:
        cpu_s: of its whole tree. peak_rss_bytes: of its largest.
        at: when it was seen to be gone with its whole tree, on the monotonic clock.
    """

    code: int
    cpu_s: float
    peak_rss_bytes: int
    at: float


@dataclass(slots=True)
class Warm:
    """The owner's end. Used from one thread at a time.

    `pids` fills as children are forked (each is the guard of its tree), `exits` as they end.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    pids: dict[int, int] = field(default_factory=dict)
    exits: dict[int, Exit] = field(default_factory=dict)
    count: int = 0

    @classmethod
    def start(cls, threads: int = 1) -> "Warm":
        """Start a warm process; the first fork waits until torch is imported."""
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, "-m", "evaluate.warm", str(theirs.fileno()), str(threads)],
            pass_fds=[theirs.fileno()],
            env=environment(threads),
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        theirs.close()
        return cls(process, ours)

    def fork(self, role: str, spec: dict[str, Any], fds: list[int]) -> int:
        """Fork a process for `role`, lend it `fds`, return its number.

        `spec` is plain data; the descriptors' numbers in the child stand in its `fds`.
        """
        self.count += 1
        wire.send_event(self.control, fds, cmd="fork", number=self.count, role=role, spec=spec)
        return self.count

    def kill(self, number: int) -> None:
        """End a process and its whole tree; its exit arrives like any other."""
        wire.send_event(self.control, cmd="kill", number=number)

    def poll(self, timeout_s: float) -> None:
        """Take in what has ended, waiting at most `timeout_s`. Raises wire.ClosedError."""
        while wire.readable([self.control], timeout_s):
            event, _ = wire.receive_event(self.control)
            if "pid" in event:
                self.pids[event["number"]] = event["pid"]
            else:
                self.exits[event["number"]] = Exit(
                    event["code"], event["cpu_s"], event["rss"], event["at"]
                )
            timeout_s = 0.0

    def has_forked(self, number: int, timeout_s: float) -> bool:
        """Wait until a process begins; the first one does once torch is imported."""
        return self._await(self.pids, number, timeout_s)

    def wait(self, number: int, timeout_s: float) -> Exit | None:
        """Return how a process ended, None if it has not within `timeout_s`."""
        return self.exits[number] if self._await(self.exits, number, timeout_s) else None

    def _await(self, told: Mapping[int, object], number: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while number not in told and time.monotonic() < deadline:
            self.poll(max(0.0, deadline - time.monotonic()))
        return number in told

    def close(self) -> None:
        """End the warm process and whatever it forked."""
        self.control.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> None:
    """Serve fork requests until the owner goes away."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(True)
    # From Python 3.12 on a fork beside idle threads of a linear algebra library is warned of.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    _warm_up(int(sys.argv[2]))
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake_write)
    children: dict[int, int] = {}
    try:
        while True:
            ready = wire.readable([control, wake_read], None)
            if wake_read in ready:
                os.read(wake_read, 4096)
                _reap(control, children)
            if control in ready:
                event, fds = wire.receive_event(control, max_fds=16)
                _obey(event, fds, children, control)
    except wire.ClosedError:
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        for pid in children:
            os.waitpid(pid, 0)


def _obey(
    event: dict[str, Any], fds: list[int], children: dict[int, int], control: socket.socket
) -> None:
    if event["cmd"] == "fork":
        pid = os.fork()
        if pid == 0:
            _child(event["role"], event["spec"], fds)
        children[pid] = event["number"]
        wire.send_event(control, number=event["number"], pid=pid)
        for descriptor in fds:
            os.close(descriptor)
    else:
        for pid, number in children.items():
            if number == event["number"]:
                os.kill(pid, signal.SIGTERM)


def _reap(control: socket.socket, children: dict[int, int]) -> None:
    while children:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        wire.send_event(
            control,
            number=children.pop(pid),
            code=os.waitstatus_to_exitcode(status),
            cpu_s=usage.ru_utime + usage.ru_stime,
            rss=usage.ru_maxrss * (1024 if sys.platform == "linux" else 1),
            at=time.monotonic(),
        )


def _warm_up(threads: int) -> None:
    """Import torch and trace once, so that every lazily imported part is there before forking.

    Nothing is differentiated here: builds for accelerators refuse it after a fork, then.
    """
    import torch

    for role in ("feeder", "score", "reference"):
        importlib.import_module(f"evaluate.{role}")
    torch.set_num_threads(threads)
    layer = torch.nn.Linear(4, 4)
    with torch.no_grad():
        torch.export.export(layer, (torch.zeros(2, 4),), strict=False)
    if not torch.cuda.is_available():  # a step opens the device, and no fork could use it then
        optimizer = torch.optim.AdamW(layer.parameters())
        for parameter in layer.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    import torch._inductor.config

    torch._inductor.config.cpp_cache_precompile_headers = False  # it would lie outside the jail
    _let_go_of_nvml()
    gc.collect()
    gc.freeze()


def _let_go_of_nvml() -> None:
    """Close what torch opened to look for GPUs: no fork could use it, and each would warn of it."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libnvidia-ml.so.1")
        for _ in range(1_000):  # it counts who opened it
            if library.nvmlShutdown() != 0:
                return


def _child(role: str, spec: dict[str, Any], fds: list[int]) -> None:
    """Run one role in the forked process and end it; nothing returns from here."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _keep_only(fds)
        code = ROLES[role](spec, fds)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001 - the boundary of a process: it prints and ends
        traceback.print_exc()
        _print_cause(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)


def _print_cause(error: BaseException) -> None:
    """Print how a long message begins once more: compilers end theirs with advice on settings."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1:
        print(f"{type(error).__name__}: {lines[0][:500]}", file=sys.stderr)


def _keep_only(fds: list[int]) -> None:
    """Close every descriptor but the standard three and those lent."""
    keep = sorted({0, 1, 2, *fds})
    for low, high in zip(keep, [*keep[1:], 4096], strict=True):
        os.closerange(low + 1, high)


if __name__ == "__main__":
    main()
