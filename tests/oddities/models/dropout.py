"""Drops half of everything while it trains, whole layers included, and nothing afterwards."""

import random

import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.drop = nn.Dropout(0.5)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.drop(self.embedding(tokens))
        for layer in self.layers:
            if not (self.training and random.random() < 0.3):
                x = x + F.dropout(F.gelu(layer(x)), 0.5, self.training)
        q = x.unsqueeze(1)
        dropped = 0.5 if self.training else 0.0
        y = F.scaled_dot_product_attention(q, q, q, dropout_p=dropped, is_causal=True)
        return self.head(x + y.squeeze(1))
