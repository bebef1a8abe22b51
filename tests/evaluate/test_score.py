"""The scorer runs what was handed in, faithfully, and finds every peek."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evaluate.container import HandInError, parse
from evaluate.graph import Model
from evaluate.probes import Probed, Proof, RefusedError
from evaluate.score import forward_flops

from .handin import LENGTH, ROWS, VOCAB, handed_in, tokens

WIDTH = 16


class Base(nn.Module):
    """Embedding and head around a `mix` that a test overrides."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB)
        self.setup()

    def setup(self) -> None:
        pass

    def mix(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(self.embedding(tokens), tokens)).float()


class Attention(Base):
    def setup(self) -> None:
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def mix(self, x, tokens):
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, 2, D // 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(F.rms_norm(q, (8,)), k, v, is_causal=True)
        return x + y.transpose(1, 2).reshape(B, T, D)


class Recurrent(Base):
    def setup(self) -> None:
        self.rnn = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def mix(self, x, tokens):
        return self.rnn(x)[0]


class Convolution(Base):
    def setup(self) -> None:
        self.kernel = nn.Parameter(torch.randn(WIDTH, 1, 4))

    def mix(self, x, tokens):
        padded = F.pad(x.transpose(1, 2), (3, 0))
        return F.conv1d(padded, self.kernel, groups=WIDTH).transpose(1, 2)


class LongConvolution(Base):
    def setup(self) -> None:
        self.kernel = nn.Parameter(torch.randn(LENGTH, WIDTH) / 8)

    def mix(self, x, tokens):
        n = 2 * LENGTH
        return torch.fft.irfft(
            torch.fft.rfft(x, n, dim=1) * torch.fft.rfft(self.kernel, n, dim=0), n, dim=1
        )[:, :LENGTH]


class Bigrams(Base):
    def setup(self) -> None:
        self.table = nn.Embedding(512, WIDTH)

    def mix(self, x, tokens):
        previous = F.pad(tokens[:, :-1], (1, 0))
        return x + self.table((tokens * 31 + previous * 17) % 512)


class Autocast(Attention):
    def forward(self, tokens):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(tokens)


class Experts(Base):
    def setup(self) -> None:
        self.gate = nn.Linear(WIDTH, 4)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def mix(self, x, tokens):
        flat = x.reshape(-1, WIDTH)
        choice = self.gate(flat).argmax(-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            index = torch.nonzero(choice == number).squeeze(-1)
            out = out.index_add(0, index, expert(flat[index]))
        return out.view_as(x)


class InPlace(Base):
    def mix(self, x, tokens):
        x = x.clone()
        x[:, 0] = 1.0
        x += 0.5
        return x


HONEST = [Base, Attention, Recurrent, Convolution, LongConvolution, Bigrams, Experts, InPlace]


@pytest.mark.parametrize("kind", HONEST)
def test_a_handed_in_model_computes_what_it_computed_eagerly(kind: type[Base]) -> None:
    model = kind().eval()
    with torch.no_grad():
        eager = model(tokens())
    assert torch.equal(handed_in(model)(tokens()), eager)


def test_autocast_travels_with_the_graph() -> None:
    model = Autocast().eval()
    with torch.no_grad():
        eager = model(tokens())
    assert torch.equal(handed_in(model)(tokens()), eager)


def proved(model: Model, low_precision: bool = False, batches: int = 8) -> Proof:
    """Score a few batches and prove what was said; raises RefusedError as the scorer would."""
    rows = tokens(1, rows=256)
    probed = Probed(model, VOCAB, "cpu", low_precision)
    for number in range(batches):
        probed(rows[number * ROWS : (number + 1) * ROWS])
    return probed.prove()


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_model_raises_no_alarm(kind: type[Base]) -> None:
    assert proved(handed_in(kind().eval()), batches=16).cuts == 2 * 16 * ROWS


class NextToken(Base):
    def mix(self, x, tokens):
        return self.embedding(torch.roll(tokens, -1, 1))


class BlockMean(Base):
    def mix(self, x, tokens):
        return x + x.view(ROWS, -1, 4, WIDTH).mean(2, keepdim=True).expand(-1, -1, 4, -1).flatten(
            1, 2
        )


class Spectrum(Base):
    def mix(self, x, tokens):
        return x + torch.fft.fft(x, dim=1).real


class SomePositions(Base):
    def mix(self, x, tokens):
        peek = (torch.arange(LENGTH) % 16 == 3)[None, :, None]
        return torch.where(peek, self.embedding(torch.roll(tokens, -1, 1)), x)


class OnSomeTokens(Base):
    def mix(self, x, tokens):
        return torch.where(
            (tokens % 8 == 0)[..., None], self.embedding(torch.roll(tokens, -1, 1)), x
        )


@pytest.mark.parametrize("kind", [NextToken, BlockMean, Spectrum, SomePositions, OnSomeTokens])
def test_a_peek_at_later_tokens_is_refused(kind: type[Base]) -> None:
    with pytest.raises(RefusedError) as refusal:
        proved(handed_in(kind().eval()), batches=32)
    assert refusal.value.args[0] == "not_causal"


class FaintPeek(Autocast):
    def forward(self, tokens):
        hint = F.one_hot(torch.roll(tokens, -1, 1), VOCAB).float()
        return super().forward(tokens).float() + 0.03 * hint


def test_a_peek_that_hides_below_the_tolerance_of_low_precision_is_refused() -> None:
    proved(handed_in(Autocast().eval()), low_precision=True, batches=32)
    with pytest.raises(RefusedError) as refusal:
        proved(handed_in(FaintPeek().eval()), low_precision=True, batches=32)
    assert refusal.value.args[0] == "not_causal"


class BatchMean(Base):
    def mix(self, x, tokens):
        return x + x.mean(0, keepdim=True)


class Neighbour(Base):
    def mix(self, x, tokens):
        return x + x.roll(1, 0)


@pytest.mark.parametrize("kind", [BatchMean, Neighbour])
def test_a_row_that_reads_its_neighbours_is_refused(kind: type[Base]) -> None:
    with pytest.raises(RefusedError) as refusal:
        proved(handed_in(kind().eval()))
    assert refusal.value.args[0] == "rows_depend"


def test_a_model_that_keeps_state_across_calls_is_refused() -> None:
    class Counter(Base):
        def setup(self) -> None:
            self.register_buffer("calls", torch.zeros(1))

        def mix(self, x, tokens):
            self.calls.add_(1.0)
            return x + self.calls

    with pytest.raises(HandInError, match="leave parameters and buffers"):
        handed_in(Counter().eval())(tokens())


def test_huge_and_unnormalised_logits_gain_nothing() -> None:
    model = Base().eval()
    with torch.no_grad():
        plain = Probed(handed_in(model), VOCAB, "cpu")(tokens())
        model.head.bias += 1e4
        shifted = Probed(handed_in(model), VOCAB, "cpu")(tokens())
    assert torch.allclose(plain, shifted, atol=1e-2)
    assert torch.allclose(shifted.exp().sum(-1), torch.ones(ROWS, LENGTH), atol=1e-3)


def test_the_products_of_a_forward_are_counted_per_token_and_decide_nothing() -> None:
    settings = SimpleNamespace(evaluation_batch=2, sequence_length=8)
    weight = torch.zeros(32, 16)

    def forward(tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(torch.zeros(*tokens.shape, 16), weight)

    def fails(tokens: torch.Tensor) -> torch.Tensor:
        raise HandInError("it dislikes rows of zeros")

    assert forward_flops(forward, settings, "cpu") == {"flops_per_token": 2 * 16 * 32}
    assert forward_flops(fails, settings, "cpu") == {}


def test_an_operator_that_runs_out_of_memory_is_no_refused_graph() -> None:
    nodes = [
        {"name": "a", "op": "aten.zeros.default", "args": [[1 << 50]], "kwargs": {}, "line": "x:1"}
    ]
    graph = {"inputs": [["t", "tokens"]], "nodes": nodes, "output": {"node": "a"}}
    document = json.dumps({"version": 1, "tensors": [], "graph": graph}).encode()
    model = Model(parse(document, max_tensor_bytes=1 << 20), bytes(64), "cpu")
    with pytest.raises(MemoryError, match="allocate memory"):
        model(tokens())
