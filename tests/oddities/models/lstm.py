"""A long short-term memory with a projection, time before batch."""

from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.rnn = nn.LSTM(width, width, dropout=0.1, num_layers=2)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens.T)  # (T, B, D)
        return self.head(self.rnn(x)[0]).transpose(0, 1)
