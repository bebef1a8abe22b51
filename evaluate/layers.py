"""Enters a real jail and tells which layers hold.

`probe` runs `python -m evaluate.layers DEVICE looks|computes [PATH ...]`, the paths being what
candidates read.

A layer counts as active when the jail says that it was entered and an attempt from inside to get
past it fails. On an accelerator something can be computed from inside as well: its driver needs
more than most programs, and another version of it may need more than a jail grants.
"""

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from evaluate.device import visible_cards
from evaluate.sandbox import UNPRIVILEGED_UID, Jail, Layer, enter, owner
from evaluate.warm import environment
from population.errors import SandboxError

PROCESSES = 512
"""And threads: as many as a candidate on an accelerator may have."""
EXPLANATIONS = {
    "limits": ("memory, processes, disk, file size and log size are bounded", ""),
    "environment": ("no variable of yours reaches a candidate", ""),
    "network": (
        "no network, and no messages from or to others",
        "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or an AppArmor "
        "profile), or start the container with the right to create them; what candidates read must "
        "be readable for all",
    ),
    "namespaces": (
        "no other process in sight, the whole tree dies together",
        "as for network; for a GPU the container must mask no part of /proc",
    ),
    "landlock": (
        "validation data, home and other candidates cannot be read, nothing else written",
        "use Linux 5.13 or later with Landlock enabled (lsm=landlock,...)",
    ),
    "seccomp": (
        "core affinity, tracing, mounting and hidden memory are out of reach",
        "use Linux on x86-64 or aarch64 with seccomp filters",
    ),
    "unprivileged": ("candidates run as an ordinary user", "start the harness as an ordinary user"),
}


def layers(device: str, readable: Sequence[str] = (), *, computes: bool = False) -> list[Layer]:
    """Return every layer, seen from inside a jail in a fresh directory; none: nobody got there.

    Args:
        device: whose files and needs the jail has.
        readable: further paths that can be read there.
        computes: also compute something on the device, if it is not the processor.
    """
    with tempfile.TemporaryDirectory() as room:
        jail = Jail(
            workdir=room,
            readable=tuple(readable),
            processes=PROCESSES,
            uid=UNPRIVILEGED_UID - 1,  # no candidate's: processes are counted by user
            device=device,
            cards=visible_cards(device),
            environment=tuple(environment(1).items()),
        )
        ids = owner(jail)
        if ids is not None:
            os.chown(room, *ids)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            _tell(jail, write, computes and device != "cpu")
        os.close(write)
        with os.fdopen(read) as answer:
            held = answer.read().split()
        os.waitpid(child, 0)
    return [Layer(name, name in held, *texts) for name, texts in EXPLANATIONS.items() if held]


def _tell(jail: Jail, write: int, computes: bool) -> None:
    """Write the names of the layers that hold, from inside; nothing returns from here."""
    try:
        outside = _network()
        if computes:
            importlib.import_module("torch")  # as a candidate has it: from before the jail
        held = [name for name in enter(jail) if _holds(name, outside)]
        if computes:
            compute(jail.device)
        if _refused(lambda: os.close(os.open(os.__file__, os.O_RDONLY))):
            raise SandboxError(
                f"{sys.base_prefix} cannot be read without root's rights: move it to where others "
                "can reach it, or start the harness as an ordinary user"
            )
        os.write(write, " ".join(held).encode())
    except Exception as error:  # noqa: BLE001 - the boundary of a process: it tells and ends
        print(error, file=sys.stderr, flush=True)
    os._exit(0)


def compute(device: str) -> None:
    """Compute something on a device.

    Raises:
        SandboxError: it cannot be used by this process.
    """
    import torch

    try:
        torch.ones(8, device=device).sum().item()
    except (AssertionError, RuntimeError) as error:  # torch is not built for it; its driver fails
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SandboxError(
            f"{device} cannot be used from inside the sandbox ({lines[0][:200]}): no candidate "
            "will start. Compare with `python -c 'import torch; "
            f'torch.ones(1, device="{device}")\'`: if that fails, another program may have the '
            "card for itself; if it works, the driver needs what the sandbox withholds: please "
            "report its version"
        ) from error


def _network() -> int | None:
    """Return which network this process is in, None where no kernel tells it apart from others."""
    try:
        return Path("/proc/self/ns/net").stat().st_ino
    except FileNotFoundError:
        return None


def _holds(name: str, outside: int | None) -> bool:
    if name == "network":
        return _network() != outside
    if name == "namespaces":
        return os.getpid() == 1
    if name == "landlock":
        return _refused(lambda: os.scandir("/etc").close())
    if name == "seccomp":
        return _refused(lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)))
    return True


def _refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    return False


if __name__ == "__main__":
    found = layers(sys.argv[1], sys.argv[3:], computes=sys.argv[2] == "computes")
    print(json.dumps([asdict(layer) for layer in found]))
    sys.exit(not found)
