"""Trials on Ray: one task per submission, one candidate per device, nothing lost with a node."""

import logging
import os
import platform
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, LocalRayletDiedError, NodeDiedError, RayError

from evaluate import cores
from evaluate.device import device_count
from evaluate.evaluator import data_sha256
from evaluate.spec import TrialSpec, trial_spec
from evaluate.trial import run_block
from population.errors import EvaluatorError, EvolveError, PoolError
from population.individual import (
    EVALUATOR,
    KILLED,
    Comparability,
    EvaluationId,
    Failed,
    Request,
    Result,
    Stage,
)
from population.task import Task

CONNECT_PATIENCE_S = 30.0
REFRESH_S = 15.0
KILL_PATIENCE_S = 10.0
"""How long a kill waits for the death of a worker: one on a node that is lost never tells of it."""
OBJECT_STORE_BYTES = 128 << 20
KNOCK_S, KNOCK_PATIENCE_S = 5.0, 10.0
"""How often a local Ray is asked whether it lives: without an answer for a minute, Ray's own client
ends this process."""
RESTARTS, RESTARTS_WITHIN_S = 3, 3600.0
"""A local Ray that dies more often in that time is not started again."""
KIND_PREFIX = "accelerator_type:"
"""Of the resource by which Ray tells a node's kind of GPU."""


@ray.remote(max_retries=0)  # type: ignore[untyped-decorator]  # Ray ships no types
def _evaluate(specs: list[TrialSpec]) -> list[Result]:
    """Trials in a Ray worker. Who else is at fault is a Failed outcome of stage infrastructure."""
    try:
        return run_block(specs)
    except EvaluatorError as error:
        return [lost(spec.request.id, EVALUATOR, str(error)) for spec in specs]
    except (EvolveError, OSError) as error:
        why = f"{platform.node()}: {error}"
        return [lost(spec.request.id, "machine", why) for spec in specs]


def lost(request: EvaluationId, reason: str, detail: str) -> Result:
    """Return the result of an evaluation that our side lost; it is tried again."""
    nowhere = Comparability("", "", "", 0, "", "")
    return Result(request, Failed(Stage.INFRASTRUCTURE, reason, detail), nowhere)


@dataclass(slots=True)
class Submitted:
    """What one Ray task evaluates. `since`: UNIX seconds; `killed`: it was ended by hand."""

    requests: list[EvaluationId]
    since: float
    killed: bool = False

    def unfinished(self, reason: str, detail: str) -> list[Result]:
        """Return the results of a task that brought none: killed, or else lost for this reason."""
        results = [lost(request, reason, detail) for request in self.requests]
        if not self.killed:
            return results
        # What it was at, starting, training or being scored, died with its worker.
        failed = Failed(Stage.TRAINING, KILLED, "it was ended by hand, with all its processes")
        began, now = self.since, time.time()
        return [replace(one, outcome=failed, started_at=began, ended_at=now) for one in results]


def slots_here(task: Task) -> int:
    """Return how many candidates this machine trains at once: as its devices and cores allow."""
    fits = len(cores.available()) // task.cores
    if task.device == "cuda":
        return max(1, min(fits, int(device_count() / task.gpus)))
    return max(1, fits if task.device == "cpu" else 1)


def common_kind(nodes: list[dict[str, Any]]) -> str | None:
    """Return the kind of GPU that a cluster has most of; None where it tells of no two kinds.

    Scores of different kinds never rank together, so a search keeps to one.
    """
    gpus: Counter[str] = Counter()
    for node in nodes:
        for name in node["Resources"]:
            if node["Alive"] and name.startswith(KIND_PREFIX):
                gpus[name.removeprefix(KIND_PREFIX)] += node["Resources"].get("GPU", 0.0)
    return max(sorted(gpus), key=lambda kind: gpus[kind]) if len(gpus) > 1 else None


class RayPool:
    """The Evaluation port on Ray: local by default, a cluster by address.

    On a cluster of several kinds of GPU it trains on one kind alone, `kind`.

    A Ray of its own that dies on this machine, as for want of memory, is started again; what was
    in flight comes back as lost.

    Args:
        data: directory of the prepared data, the same path on every node; None without data.
        slots: candidates at once on this machine; None: one per device, on the processor one per
            `task.cores` cores. Ignored with an address, where the cluster's resources decide.
        address: of a running Ray cluster, `auto` for the one of this machine.
        required: layers of the sandbox without which no node trains.

    Raises:
        PoolError: Ray does not answer, or no node has what one candidate needs.
    """

    def __init__(
        self,
        task: Task,
        data: Path | None,
        *,
        slots: int | None,
        address: str | None,
        required: tuple[str, ...] = (),
    ) -> None:
        self._task, self._data, self._required = task, data, required
        self._data_sha256 = data_sha256(task, data)
        self._gpus = task.gpus if task.device == "cuda" else 0.0
        self._tasks: dict[Any, Submitted] = {}
        self._fixed = None if address else slots or slots_here(task)
        self._slots, self._refreshed = 0, 0.0
        self._cpus = None if self._fixed is None else self._fixed * task.cores
        self._dead, self._knocked, self._restarts = "", time.monotonic(), deque[float]()
        _connect(address, self._cpus)
        self.kind = common_kind(ray.nodes()) if self._gpus else None
        self._slots = self._count_slots()
        self._per_host = self._slots if address is None else usual(self._fits())
        if self._slots == 0:
            self.close()
            raise PoolError(
                f"no node offers what one candidate needs ({task.cores} cores, {self._gpus:g} "
                f"GPUs): Ray has {ray_resources()}; lower `cores` or `gpus` in task.toml, train on "
                "processors with --device cpu, or add a node"
            )

    @property
    def slots(self) -> int:
        """How many candidates train at once; follows the cluster's nodes."""
        if self._fixed is None and time.monotonic() - self._refreshed > REFRESH_S:
            self._slots = self._count_slots()
        return self._slots

    def _count_slots(self) -> int:
        self._refreshed = time.monotonic()
        total = sum(self._fits())
        return total if self._fixed is None else min(total, self._fixed)

    def _fits(self) -> Iterator[int]:
        """Yield how many candidates each node trains at once."""
        for node in ray.nodes():
            if node["Alive"]:
                offered = node["Resources"]
                if self.kind and KIND_PREFIX + self.kind not in offered:
                    continue
                fits = offered.get("CPU", 0.0) // self._task.cores
                if self._gpus:
                    fits = min(fits, offered.get("GPU", 0.0) // self._gpus)
                yield int(fits)

    def submit(self, *requests: Request) -> None:
        """Start evaluations; see the port's contract: one task holds its device for all of them."""
        specs = [self._spec(request) for request in requests]
        remote = _evaluate.options(
            num_cpus=self._task.cores, num_gpus=self._gpus, accelerator_type=self.kind
        )
        asked = [request.id for request in requests]
        self._tasks[remote.remote(specs)] = Submitted(asked, time.time())

    def kill(self, *requests: EvaluationId) -> None:
        """End evaluations by hand; see the port's contract. A worker takes its whole tree along."""
        asked = set(requests)
        ending = [one for one, task in self._tasks.items() if asked & set(task.requests)]
        if not ending:
            return
        _require_connection()
        for reference in ending:
            self._tasks[reference].killed = True
            ray.cancel(reference, force=True)
        ray.wait(ending, num_returns=len(ending), timeout=KILL_PATIENCE_S)

    def _spec(self, request: Request) -> TrialSpec:
        spec = trial_spec(
            self._task,
            request,
            data=self._data,
            data_sha256=self._data_sha256,
            slots=self._per_host,
        )
        return replace(spec, required=self._required)

    def wait(self, timeout_s: float) -> list[Result]:
        """Return what has ended; see the port's contract."""
        if self._fixed is not None and not self._lives():
            return self._begin_anew()
        if not self._tasks:
            return []
        _require_connection()
        pending = list(self._tasks)
        first, _ = ray.wait(pending, num_returns=1, timeout=timeout_s)
        if not first:
            return []
        ready, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
        return [result for reference in ready for result in self._collect(reference)]

    def _collect(self, reference: Any) -> list[Result]:
        task = self._tasks.pop(reference)
        if task.killed:  # even if it had ended a moment before: whoever killed it was told so
            return task.unfinished("killed", "")
        try:
            results: list[Result] = ray.get(reference, timeout=CONNECT_PATIENCE_S)
        except (RayError, GetTimeoutError) as error:
            why = f"{type(error).__name__}: {str(error)[:500]}"
            if isinstance(error, LocalRayletDiedError | NodeDiedError):
                self._dead = type(error).__name__
            return task.unfinished("worker_lost", why)
        return results

    def _lives(self) -> bool:
        """Tell whether the local Ray answers, as far as its tasks and a look now and then tell."""
        now = time.monotonic()
        if not self._dead and now - self._knocked > KNOCK_S:
            self._knocked = now
            try:
                _knock(ray.get_runtime_context().gcs_address, KNOCK_PATIENCE_S)
            except (OSError, RuntimeError) as error:
                self._dead = str(error)
        return not self._dead

    def _begin_anew(self) -> list[Result]:
        """Start the local Ray again; return what was in flight when it died."""
        now, why = time.monotonic(), f"Ray has died on this machine ({self._dead})"
        self._restarts.append(now)
        while self._restarts[0] < now - RESTARTS_WITHIN_S:
            self._restarts.popleft()
        if len(self._restarts) > RESTARTS:
            raise PoolError(
                f"{why}, for the {len(self._restarts)}th time within an hour. All results are "
                "kept. Is it short of memory (`dmesg`)? Train fewer at once with --slots, or lower "
                "`memory` in task.toml, and go on with `evolve run`"
            )
        results = [
            result
            for task in self._tasks.values()
            for result in task.unfinished("ray_died", f"{why} and was started again")
        ]
        self.close()
        _connect(None, self._cpus)
        self._dead, self._knocked = "", time.monotonic()
        return results

    def close(self) -> None:
        """Let go of Ray; what still trains is ended with its workers."""
        for reference in self._tasks:
            with suppress(RayError):  # it has died
                ray.cancel(reference, force=True)
        self._tasks.clear()
        ray.shutdown()


def _require_connection() -> None:
    if not ray.is_initialized():
        raise PoolError("the connection to Ray is gone: start the run again to go on")


def usual(counts: Iterable[int]) -> int:
    """Return how many candidates most nodes train at once, the larger of two that are as common."""
    found = Counter(counts)
    return max(found, key=lambda one: (found[one], one), default=0)


def ray_resources() -> dict[str, float]:
    """Return what the cluster offers, for messages."""
    return {k: v for k, v in ray.cluster_resources().items() if k in ("CPU", "GPU")}


def _connect(address: str | None, local_cpus: int | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")  # it would kill our workers
        options |= {
            "address": "local",  # whatever RAY_ADDRESS says: this machine was asked for
            "num_cpus": local_cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    else:
        options["address"] = address
    try:
        _knock(address)
        with _deaf_to_hang_up():
            ray.init(**options)
    except Exception as error:  # Ray raises what has no type of its own, too
        raise PoolError(_why_no_ray(address, error)) from error


@contextmanager
def _deaf_to_hang_up() -> Iterator[None]:
    """Let processes that begin here live on when the terminal is closed, until we end them.

    Where Ray's own go first they take this one along before it has ended its run.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _why_no_ray(address: str | None, error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    if address is None:
        return (
            f"Ray does not start on this machine: {said}. Where it is very busy, try again: no "
            "result is lost. `evolve doctor` tries Ray alone"
        )
    return (
        f"the Ray cluster at {address} does not answer: {said}; check the address with "
        "`ray status`, or leave --address out to train on this machine"
    )


def _knock(address: str | None, patience_s: float = CONNECT_PATIENCE_S) -> None:
    """Raise OSError where nobody listens: Ray itself would end this whole process."""
    host, _, port = (address or "auto").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), patience_s).close()
