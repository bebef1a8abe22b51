"""Runs a validated graph on real tensors: an interpreter of some 60 lines, no code of others."""

import operator
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch

from evaluate.container import Container, HandInError, TensorEntry
from evaluate.operands import check_operands

FAILURES = (
    RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError,
    AssertionError,
)  # fmt: skip
"""What an operator raises when it is called with what it cannot take."""

NO_MEMORY = re.compile("can't allocate memory|ALLOC_FAILED")
"""What torch says in a RuntimeError of its own when memory is out: no fault of the graph's form."""

Read = Callable[[dict[str, Any]], Any]


class Model:
    """A hand-in that can be called: tokens (E, T) int64 -> logits (E, T, V).

    The tensors are copied out of the shared memory once; nothing outside shares their storage.
    """

    def __init__(self, container: Container, memory: bytes | memoryview, device: str) -> None:
        self.device = device
        self._entries, self._memory = container.tensors, memoryview(memory)
        self._tensors = {
            entry.name: self._given(entry)
            .to(device, copy=True)
            .view(getattr(torch, entry.dtype))
            .reshape(entry.shape)
            for entry in container.tensors.values()
        }
        self._versions = {name: t._version for name, t in self._tensors.items()}
        self._inputs = container.graph["inputs"]
        self._program = _Program(container.graph, self)

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        Raises:
            HandInError: an operator fails, the state was changed, or the output is no tensor.
            MemoryError, torch.OutOfMemoryError: it needs more memory than there is.
        """
        values = {
            name: tokens if kind == "tokens" else self._tensors[source[0]]
            for name, kind, *source in self._inputs
        }
        with torch.no_grad():
            output = self._program.run(values)
        changed = [n for n, t in self._tensors.items() if t._version != self._versions[n]]
        if changed:
            raise HandInError(
                f"forward changes {changed[0]}: it must leave parameters and buffers as they are"
            )
        while isinstance(output, tuple | list) and len(output) == 1:
            output = output[0]
        if not isinstance(output, torch.Tensor):
            raise HandInError("forward must return one tensor: the logits (E, T, V)")
        return output

    def check_unchanged(self) -> None:
        """Compare every tensor with what was handed in, once all has been said.

        The version counters have seen every write that torch knows of; this sees the others.

        Raises:
            HandInError: one differs.
        """
        for name, entry in self._entries.items():
            now = self._tensors[name].reshape(-1).view(torch.uint8)
            if not torch.equal(now, self._given(entry).to(self.device)):
                raise HandInError(f"forward changes {name}, unseen by torch")

    def _given(self, entry: TensorEntry) -> torch.Tensor:
        """Return what was handed in as it lies in memory, uint8 (size,): to be read alone."""
        given = self._memory[entry.offset : entry.offset + entry.size]
        if not given:
            return torch.empty(0, dtype=torch.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a buffer that cannot be written
            return torch.frombuffer(given, dtype=torch.uint8)

    def _subgraph(self, program: "_Program", *inputs: Any) -> Any:
        if len(inputs) != len(program.inputs):
            raise HandInError("a subgraph is called with the wrong number of inputs")
        return program.run(dict(zip(program.inputs, inputs, strict=True)))

    def autocast(
        self, _: str, dtype: Any, enabled: bool, cache: Any, graph: Any, *inputs: Any
    ) -> Any:
        """Run a subgraph under autocast, as the candidate's forward did."""
        kind = torch.device(self.device).type
        with torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=bool(cache)):
            return self._subgraph(graph, *inputs)

    def grad_mode(self, _: bool, graph: Any, *inputs: Any) -> Any:
        """Run a subgraph as it is: the scorer never computes gradients."""
        mode: AbstractContextManager[Any] = torch.no_grad()
        with mode:
            return self._subgraph(graph, *inputs)


@dataclass(frozen=True, slots=True)
class _Step:
    """One node: its operator, how its arguments are read, and the values that nobody needs then."""

    function: Callable[..., Any]
    args: list[Read]
    kwargs: dict[str, Read]
    name: str
    freed: list[str]
    source: str


class _Program:
    """A graph made ready once, since a small model's forward takes less than reading its graph."""

    def __init__(self, graph: Mapping[str, Any], model: Model) -> None:
        last_use = _last_uses(graph)
        self.inputs: list[str] = [
            row if isinstance(row, str) else row[0] for row in graph["inputs"]
        ]
        self._steps = [
            _Step(
                _operator(node["op"], model),
                [_reader(item, model) for item in node["args"]],
                {key: _reader(item, model) for key, item in node["kwargs"].items()},
                node["name"],
                last_use.get(position, []),
                f"{node['op']} ({node['line'] or 'unknown line'})",
            )
            for position, node in enumerate(graph["nodes"])
        ]
        self._output = _reader(graph["output"], model)

    def run(self, values: dict[str, Any]) -> Any:
        for step in self._steps:
            args = [read(values) for read in step.args]
            kwargs = {key: read(values) for key, read in step.kwargs.items()}
            try:
                check_operands(step.function, args, kwargs)
                values[step.name] = step.function(*args, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except FAILURES as error:
                if NO_MEMORY.search(str(error)):
                    raise MemoryError(str(error)[:300]) from error
                raise HandInError(
                    f"{step.source} failed in the scorer: {str(error)[:300]}"
                ) from error
            for name in step.freed:
                values.pop(name, None)
        return self._output(values)


def _reader(value: Any, model: Model) -> Read:
    """Return what finds an argument among the values of the nodes before it."""
    if isinstance(value, list):
        items = [_reader(item, model) for item in value]
        return lambda values: [read(values) for read in items]
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "node":
            return itemgetter(content)
        value = _constant(kind, content, model)
    return lambda _: value


def _constant(kind: str, content: Any, model: Model) -> Any:
    if kind == "graph":
        return _Program(content, model)
    if kind == "device":
        return torch.device(model.device)
    if kind == "float":
        return float(content)
    return content if kind == "text" else getattr(torch, content)


def _operator(name: str, model: Model) -> Callable[..., Any]:
    if name == "higher_order.wrap_with_autocast":
        return model.autocast
    if name == "higher_order.wrap_with_set_grad_enabled":
        return model.grad_mode
    space, base, *overload = name.split(".")
    if space == "operator":
        function: Callable[..., Any] = getattr(operator, base)
        return function
    packet = getattr(torch.ops.aten, base, None)
    if packet is None or overload[0] not in packet.overloads():
        raise HandInError(f"{name} is not an operator of torch {torch.__version__}")
    resolved: Callable[..., Any] = getattr(packet, overload[0])
    return resolved


def _last_uses(graph: Mapping[str, Any]) -> dict[int, list[str]]:
    """Return which values may be freed after each node, so that memory stays near eager's."""
    last: dict[str, int] = {}
    for position, node in enumerate(graph["nodes"]):
        for name in _names((node["args"], list(node["kwargs"].values()))):
            last[name] = position
    for name in _names(graph["output"]):
        last.pop(name, None)
    freed: dict[int, list[str]] = {}
    for name, position in last.items():
        freed.setdefault(position, []).append(name)
    return freed


def _names(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [name for item in value for name in _names(item)]
    if isinstance(value, dict) and "node" in value:
        return [value["node"]]
    return []
