"""The device that candidates train on: its name, and whether it is free."""

import contextlib
import os
import platform
import subprocess
import time
from functools import cache
from pathlib import Path

from population.errors import EvolveError

PATIENCE_S = 10.0
QUERY_S = 5.0


class DeviceBusyError(EvolveError):
    """Something lives on the device that is about to be leased."""


@cache
def device_name(device: str) -> str:
    """Return the device kind for people and for comparability: the processor's or card's name."""
    if device != "cpu":
        import torch

        return str(torch.cuda.get_device_name(0)) if device == "cuda" else device
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
    while pids := _computing():
        if time.monotonic() > deadline:
            raise DeviceBusyError(
                f"processes {', '.join(pids)} compute on the device that a candidate should have "
                "for itself: end them, or name another one in CUDA_VISIBLE_DEVICES"
            )
        time.sleep(0.2)


def _computing() -> list[str]:
    """Return the pids that nvidia-smi sees on the visible devices."""
    command = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        command.append(f"--id={visible}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip().isdigit()]
