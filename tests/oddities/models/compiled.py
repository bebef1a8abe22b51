"""The whole module is compiled for training; the plain one is handed in."""

import torch
import torch.nn.functional as F
from torch import nn

import prepare


class Model(nn.Module):
    def __init__(self, vocab, width=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.layer = nn.Linear(width, width)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.head(x + F.gelu(self.layer(x)))


run = prepare.start()
model = torch.compile(Model(run.vocab_size).to(run.device))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
run.register(model)
model(run.warmup_tokens(4)).sum().backward()
optimizer.zero_grad()
for x, y in run.batches(4):
    F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
    optimizer.step()
    optimizer.zero_grad()
run.deliver(model)
