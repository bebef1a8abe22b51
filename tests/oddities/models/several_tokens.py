"""Predicts two further tokens while it trains; in evaluation only the next one."""

import torch
import torch.nn.functional as F
from torch import nn

import prepare


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.heads = nn.ModuleList(nn.Linear(width, vocab) for _ in range(3))

    def forward(self, tokens):
        x = self.rnn(self.embedding(tokens))[0]
        if self.training:
            return [head(x) for head in self.heads]
        return self.heads[0](x)


run = prepare.start()
model = Model(run.vocab_size).to(run.device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
run.register(model)
for x, y in run.batches(4):
    loss = 0.0
    for ahead, logits in enumerate(model(x)):
        due = y[:, ahead:].flatten()
        loss = loss + F.cross_entropy(logits[:, : y.shape[1] - ahead].flatten(0, 1), due)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
run.deliver(model)
