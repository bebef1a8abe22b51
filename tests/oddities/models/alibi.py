"""Attention with linear biases: the further back, the less it counts; a slope per head."""

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32, heads=4):
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(vocab, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, vocab)
        self.register_buffer("slopes", 2.0 ** -torch.arange(1, heads + 1))

    def forward(self, tokens):
        x, T = self.embedding(tokens), tokens.shape[1]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        place = torch.arange(T, device=x.device)
        bias = self.slopes[:, None, None] * (place[None, :] - place[:, None])
        future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.masked_fill(future, -torch.inf))
        return self.head(x + y.transpose(1, 2).flatten(2))
