"""Normalises over the batch in training, by what it has gathered in evaluation."""

from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.head(x + self.norm(x.mT).mT.relu())
