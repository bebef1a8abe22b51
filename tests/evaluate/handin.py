"""Hand-ins made in this process: what a candidate would send, without the processes."""

import json

import torch
from torch import nn

import prepare
from evaluate.container import Container, parse
from evaluate.graph import Model

VOCAB, ROWS, LENGTH = 256, 8, 32


def document(model: nn.Module) -> bytes:
    """Return the graph of `model` as the candidate's client writes it."""
    graph, tensors, _ = prepare.trace(model, (ROWS, LENGTH), "cpu")
    return json.dumps({"version": 1, "tensors": tensors, "graph": graph}).encode()


def memory(container: Container, model: nn.Module) -> bytes:
    """Return the tensors of `model` as they lie in the shared memory."""
    data = bytearray(container.size)
    values = prepare.named_tensors(model) | prepare.trace(model, (ROWS, LENGTH), "cpu")[2]
    for entry in container.tensors.values():
        flat = values[entry.name].detach().contiguous().view(-1).view(torch.uint8)
        data[entry.offset : entry.offset + entry.size] = flat.numpy().tobytes()
    return bytes(data)


def handed_in(model: nn.Module) -> Model:
    """Return `model` after its way through the container."""
    container = parse(document(model), max_tensor_bytes=1 << 30)
    return Model(container, memory(container, model), "cpu")


def tokens(seed: int = 0, rows: int = ROWS) -> torch.Tensor:
    """Return random tokens (rows, T)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCAB, (rows, LENGTH), generator=generator)
