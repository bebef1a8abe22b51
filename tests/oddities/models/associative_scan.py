"""A linear recurrence by torch's own scan, and a cell that steps through the first positions."""

import torch
from torch import nn
from torch._higher_order_ops.associative_scan import associative_scan


def combined(left, right):
    return left[0] * right[0], left[1] * right[0] + right[1]


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.gates = nn.Linear(width, 2 * width)
        self.cell = nn.GRUCell(width, width)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        keep, new = self.gates(x).chunk(2, dim=-1)
        start = torch.zeros(len(x), x.shape[-1]).to(x.device)
        first = self.cell(x[:, 1], self.cell(x[:, 0], start))
        inputs = (keep.sigmoid(), torch.cat((new[:, :2], first[:, None], new[:, 3:]), dim=1))
        scanned = associative_scan(combined, inputs, dim=1, combine_mode="generic")
        return self.head(x + scanned[1])
