"""Copies: attention's weights on earlier tokens become a share of the prediction."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.vocab = vocab
        self.embedding = nn.Embedding(vocab, width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.share = nn.Linear(width, 1)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x, T = self.embedding(tokens), tokens.shape[1]
        later = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
        scores = self.query(x) @ self.key(x).mT / x.shape[-1] ** 0.5
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)  # (B, T, T)
        copied = torch.zeros(*tokens.shape, self.vocab, device=x.device)
        copied = copied.scatter_add(2, tokens.unsqueeze(1).expand_as(weights), weights)
        share = torch.sigmoid(self.share(x))
        return torch.log((1 - share) * self.head(x).softmax(-1) + share * copied + 1e-8)
