"""Weights behind parametrizations: split into length and direction, orthogonal, symmetric."""

from torch import nn
from torch.nn.utils import parametrizations, parametrize


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).mT


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.first = parametrizations.weight_norm(nn.Linear(width, width))
        self.second = parametrizations.orthogonal(nn.Linear(width, width))
        self.third = nn.Linear(width, width)
        parametrize.register_parametrization(self.third, "weight", Symmetric())
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in (self.first, self.second, self.third):
            x = x + layer(x).relu()
        return self.head(x)
