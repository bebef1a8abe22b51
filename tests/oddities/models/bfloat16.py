"""All parameters and the optimizer's state in bfloat16, logits included."""

import torch
import torch.nn.functional as F
from torch import nn

import prepare


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        q, k, v = self.qkv(self.norm(x)).unsqueeze(1).chunk(3, dim=-1)
        return self.head(x + F.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1))


run = prepare.start()
model = Model(run.vocab_size).to(run.device, torch.bfloat16)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
run.register(model)
for x, y in run.batches(4):
    F.cross_entropy(model(x).float().flatten(0, 1), y.flatten()).backward()
    optimizer.step()
    optimizer.zero_grad()
run.deliver(model)
