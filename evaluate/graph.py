"""Runs a validated graph on real tensors: an interpreter of some 60 lines, no code of others."""

import operator
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
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

Tensors = Mapping[str, torch.Tensor]


class Model:
    """A hand-in that can be called: tokens (E, T) int64 -> logits (E, T, V).

    The tensors are copied out of the shared memory once; nothing outside shares their storage.
    """

    def __init__(self, container: Container, memory: bytes | memoryview, device: str) -> None:
        self._graph = container.graph
        self._device = device
        self._entries, self._memory = container.tensors, memoryview(memory)
        self._tensors = {
            entry.name: self._bytes_of(entry).view(getattr(torch, entry.dtype)).reshape(entry.shape)
            for entry in container.tensors.values()
        }
        self._versions = {name: t._version for name, t in self._tensors.items()}

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        Raises:
            HandInError: an operator fails, the state was changed, or the output is no tensor.
            MemoryError, torch.OutOfMemoryError: it needs more memory than there is.
        """
        values: dict[str, Any] = {}
        for name, kind, *source in self._graph["inputs"]:
            values[name] = tokens if kind == "tokens" else self._tensors[source[0]]
        with torch.no_grad():
            output = self._run(self._graph, values)
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
            if not torch.equal(now, self._bytes_of(entry)):
                raise HandInError(f"forward changes {name}, unseen by torch")

    def _bytes_of(self, entry: TensorEntry) -> torch.Tensor:
        """Return a copy of what was handed in, uint8 (size,), on the device in one pass."""
        given = self._memory[entry.offset : entry.offset + entry.size]
        if not given:
            return torch.empty(0, dtype=torch.uint8, device=self._device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a buffer that cannot be written: it is copied
            return torch.frombuffer(given, dtype=torch.uint8).to(self._device, copy=True)

    def _run(self, graph: Mapping[str, Any], values: dict[str, Any]) -> Any:
        last_use = _last_uses(graph)
        for position, node in enumerate(graph["nodes"]):
            args = [self._decode(item, values) for item in node["args"]]
            kwargs = {key: self._decode(item, values) for key, item in node["kwargs"].items()}
            try:
                function = _operator(node["op"], self)
                check_operands(function, args, kwargs)
                values[node["name"]] = function(*args, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except FAILURES as error:
                if NO_MEMORY.search(str(error)):
                    raise MemoryError(str(error)[:300]) from error
                raise HandInError(
                    f"{node['op']} ({node['line'] or 'unknown line'}) failed in the scorer: "
                    f"{str(error)[:300]}"
                ) from error
            for name in last_use.get(position, ()):
                values.pop(name, None)
        return self._decode(graph["output"], values)

    def _decode(self, value: Any, values: Mapping[str, Any]) -> Any:
        if isinstance(value, list):
            return [self._decode(item, values) for item in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "node":
            return values[content]
        if kind == "graph":
            return content
        if kind == "device":
            return torch.device(self._device)
        if kind == "float":
            return float(content)
        return content if kind == "text" else getattr(torch, content)

    def _subgraph(self, graph: Mapping[str, Any], *inputs: Any) -> Any:
        if len(inputs) != len(graph["inputs"]):
            raise HandInError("a subgraph is called with the wrong number of inputs")
        return self._run(graph, dict(zip(graph["inputs"], inputs, strict=True)))

    def autocast(
        self, _: str, dtype: Any, enabled: bool, cache: Any, graph: Any, *inputs: Any
    ) -> Any:
        """Run a subgraph under autocast, as the candidate's forward did."""
        kind = torch.device(self._device).type
        with torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=bool(cache)):
            return self._subgraph(graph, *inputs)

    def grad_mode(self, _: bool, graph: Any, *inputs: Any) -> Any:
        """Run a subgraph as it is: the scorer never computes gradients."""
        mode: AbstractContextManager[Any] = torch.no_grad()
        with mode:
            return self._subgraph(graph, *inputs)


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
