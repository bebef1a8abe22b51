"""Weights of three values and codes of one bit: a custom gradient carries the training."""

import torch
from torch import nn


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.layer = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        weight = self.layer.weight
        scale = weight.abs().mean().clamp(min=1e-5)
        ternary = (weight / scale).round().clamp(-1, 1) * scale
        weight = weight + (ternary - weight).detach()
        return self.head(x + Sign.apply(x @ weight.T))
