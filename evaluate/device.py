"""The device that candidates train on: which there is, its name, its memory, whether it is free.

NVIDIA cards are asked through nvidia-smi: whoever asks through torch opens the device, and would be
a stranger on it for the next candidate.
"""

import contextlib
import os
import platform
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from population.errors import EvolveError

PATIENCE_S = 10.0
QUERY_S, LASTING_S = 5.0, 60.0
"""For an answer of nvidia-smi: of the moment, and of what stays, for which it may have to wake the
driver of every card first."""
TORCH_S = 120.0
DEVICE_FILES = ("nvidiactl", "kfd", "dxg")
"""Names below /dev without which there is no use in asking torch: NVIDIA, AMD, Windows' Linux."""
CARDS = Path("/proc/driver/nvidia/gpus")
PEAK_BF16_FLOPS = {
    "H200": 989.5e12, "H100 80GB HBM3": 989.5e12, "H100 PCIe": 756e12, "H100 NVL": 835e12,
    "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12,
    "A10G": 70e12, "RTX 4090": 165.2e12, "RTX 3090": 71e12,
}  # fmt: skip
"""Dense bfloat16 operations per second at most, by the vendors' data sheets, by words of names."""


class DeviceMissingError(EvolveError):
    """This machine has no such device."""


class DeviceBusyError(EvolveError):
    """Something lives on the device that is about to be leased."""


@cache
def accelerator() -> str:
    """Return `cuda` where torch sees a GPU (of NVIDIA or AMD), else `cpu`."""
    return "cuda" if device_files() and device_count() > 0 else "cpu"


def device_files() -> bool:
    """Return whether this machine shows a GPU at all."""
    return any(Path("/dev", name).exists() for name in DEVICE_FILES)


@cache
def device_count() -> int:
    """Return how many GPUs torch sees; asked in a process of its own, which lets go of them."""
    said = _torch("print(torch.cuda.device_count())").split()
    return int(said[-1]) if said and said[-1].isdigit() else 0


def require_device(device: str) -> None:
    """Return where this machine has the device; asked before anything is fetched for it.

    Raises:
        DeviceMissingError: torch sees none.
    """
    missing = device == "cuda" and device_count() == 0
    if device == "mps":
        missing = _torch("print(torch.backends.mps.is_available())") != "True"
    if missing:
        raise DeviceMissingError(
            f"torch sees no {device} device on this machine: `evolve doctor` tells what it sees; "
            "leave --device out, or train on a cluster that has one (`evolve run --address`)"
        )


def device_name(device: str) -> str:
    """Return the device kind for people and for comparability: the processor's or card's name."""
    if device == "cuda":
        rows = _lasting("name")
        return rows[0] if rows else _name_by_torch(_visible()) or device
    return _processor() if device == "cpu" else device


@cache
def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _name_by_torch(_: str) -> str:
    return _torch("print(torch.cuda.get_device_name(0))")


def driver_version(device: str) -> str:
    """Return the version of the card's driver, empty where none is told."""
    rows = _lasting("driver_version") if device == "cuda" else []
    return rows[0] if rows else ""


def peak_flops(name: str) -> float | None:
    """Return how many bfloat16 operations per second a card of this name does at most."""
    fits = [known for known in PEAK_BF16_FLOPS if re.search(rf"\b{known}\b", name)]
    return PEAK_BF16_FLOPS[max(fits, key=len)] if fits else None


def visible_cards(device: str) -> tuple[str, ...]:
    """Return the names below /dev of the NVIDIA cards that are ours; empty where it is not told."""
    told = {row.lower()[-12:] for row in _lasting("pci.bus_id")} if device == "cuda" else ()
    names = []
    for file in sorted(CARDS.glob("*/information")):
        minor = re.search(r"Device Minor:\s*(\d+)", file.read_text(errors="replace"))
        if minor is not None and file.parent.name.lower()[-12:] in told:
            names.append(f"nvidia{minor[1]}")
    return tuple(names)


def memory_used_bytes(device: str) -> int | None:
    """Return how much of the device's memory is taken now, None where that is not told."""
    rows = _nvidia("gpu", "memory.used") if device == "cuda" else []
    return int(rows[0]) << 20 if rows and rows[0].isdigit() else None


def utilisation_share(device: str) -> float | None:
    """Return the share of the last moment in which the device computed, None where not told.

    Of several devices it is that of the busiest.

    The moment is as long as the driver says: a sixth of a second to a whole one.
    """
    rows = _nvidia("gpu", "utilization.gpu") if device == "cuda" else []
    shares = [int(row) for row in rows if row.isdigit()]
    return max(shares) / 100 if shares else None


def device_free(device: str) -> None:
    """Return when no process computes on the device; nothing is asked on the processor.

    A process that was killed holds its memory there for a moment longer. Where nvidia-smi is
    missing or does not answer nothing can be told, and the trial goes on.

    Raises:
        DeviceBusyError: after some seconds there still is one.
    """
    if device != "cuda":
        return
    deadline = time.monotonic() + PATIENCE_S
    while pids := [row for row in _nvidia("compute-apps", "pid") if row.isdigit()]:
        if time.monotonic() > deadline:
            raise DeviceBusyError(
                f"processes {', '.join(pids)} compute on the device that a candidate should have "
                "for itself: end them, or name another one in CUDA_VISIBLE_DEVICES"
            )
        time.sleep(0.2)


def _visible() -> str:
    """Return which devices are ours now: a worker may get another one for its next trial."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


_answers: dict[tuple[str, str], list[str]] = {}


def _lasting(field: str) -> list[str]:
    """Return what nvidia-smi says of the visible cards that never changes, asked until it answers.

    What it left out once would stay out of this worker's comparability key, and rank its scores
    with nobody's.
    """
    asked = field, _visible()
    if asked not in _answers and (rows := _nvidia("gpu", field, LASTING_S)):
        _answers[asked] = rows
    return _answers.get(asked, [])


def _nvidia(subject: str, fields: str, timeout_s: float | None = None) -> list[str]:
    """Return nvidia-smi's rows about the visible devices; none where it does not answer."""
    command = ["nvidia-smi", f"--query-{subject}={fields}", "--format=csv,noheader,nounits"]
    visible = _visible()
    if visible:
        command.append(f"--id={visible}")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s or QUERY_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _torch(program: str) -> str:
    """Return what a line of Python prints that knows torch, empty where it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import torch; {program}"],
            capture_output=True,
            text=True,
            timeout=TORCH_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
