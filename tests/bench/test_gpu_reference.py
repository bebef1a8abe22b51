"""The reference's program gets our rows, clock and score; a program of our own stands in here."""

import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import prepare
from bench.gpu_reference import (
    ROOT,
    ConstantError,
    NoGpuError,
    ReferenceFailedError,
    parsed,
    reference,
    replaced,
)
from bench.gpu_reference_imports import Offer, kernels
from population.errors import DataError

PROGRAM = """# ∝ is three bytes long
import math, time
import torch
from kernels import get_kernel
fa3 = get_kernel("any/repository").flash_attn_interface
from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, make_dataloader, evaluate_bpb

BATCH, WIDTH = 8, 4
RATE = 2**3 * 0.05  # ∝ kept
PATTERN: str = "SL"; LONG = -1
DEPTH = WIDTH * 2

def rotary(length, base=10000, *, scale=1.0):
    return base

class Model(torch.nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.rates = torch.nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x, targets, reduction="mean"):
        q = torch.ones(*x.shape, 1, 8)
        y = fa3.flash_attn_func(q, q, q, causal=True, window_size=(MAX_SEQ_LEN // 2, 0))
        assert torch.allclose(y, q)
        logits = self.rates.expand(*x.shape, -1).flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, targets.view(-1), reduction=reduction)

torch.manual_seed(42)
tokenizer = Tokenizer.from_directory()
model = Model(tokenizer.get_vocab_size())
optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
loader = make_dataloader(tokenizer, BATCH, MAX_SEQ_LEN, "train")
x, y, epoch = next(loader)
print("first", x[0, :3].tolist(), "draw", torch.rand(()).item(), "epoch", epoch)
print("base", rotary(1), "pattern", PATTERN, "rate", RATE)
started, steps = time.time(), 0
while time.time() - started < TIME_BUDGET:
    model(x, y).backward()
    optimizer.step()
    optimizer.zero_grad()
    x, y, epoch = next(loader)
    steps += 1
    print(f"\\rstep {steps:05d}", end="", flush=True)
print()
bpb = evaluate_bpb(model, tokenizer, 48)
print(f'''---
val_bpb:          {bpb:.6f}
training_seconds: {TIME_BUDGET:.1f}
total_seconds:    {time.time() - started:.1f}
peak_vram_mb:     0.0
mfu_percent:      12.34
total_tokens_M:   {steps * BATCH * MAX_SEQ_LEN / 1e6:.1f}
num_steps:        {steps}
depth:            8''')
"""


@pytest.fixture(autouse=True)
def without_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins are small enough for a processor, whatever the machine has."""
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    words = np.array(["".join(map(chr, rng.integers(97, 123, 5))) for _ in range(500)])
    text = "\n\n".join(" ".join(rng.choice(words, 300)) for _ in range(450))
    source = tmp_path_factory.mktemp("source") / "words.txt"
    source.write_text(text)
    return prepare.prepare(str(source), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


class Unigram(torch.nn.Module):
    """Log-probabilities that depend on the token before, so that a wrong pairing shows."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = torch.randn(vocab_size, vocab_size).log_softmax(-1)

    def forward(self, x: torch.Tensor, y: torch.Tensor, reduction: str) -> torch.Tensor:
        logits = self.table[x].flatten(0, 1)
        return F.cross_entropy(logits, y.view(-1), reduction=reduction)


def draw(seed: int) -> float:
    return float(torch.rand((), generator=torch.Generator().manual_seed(seed)))


def test_a_program_trains_and_is_scored_on_our_rows_with_its_constants(
    checkout: Path, data: Path
) -> None:
    constants = {"RATE": 0.5, "PATTERN": "SSL", "rotary.base": 200_000}
    run = reference(checkout, data, 0.2, constants, seed=7)
    assert "base 200000 pattern SSL rate 0.5" in run.output
    first = prepare.batch_source(data, 7)(8)[0, :3].tolist()
    assert f"first {first} draw {draw(7)} epoch 1" in run.output
    assert run.training_seconds == 0.2
    assert run.num_steps > 0
    assert run.mfu_percent == 12.34
    assert 0 < run.val_bpb < 8.01


def test_without_a_seed_the_program_keeps_its_own_and_rows_come_in_the_same_order(
    checkout: Path, data: Path
) -> None:
    first = prepare.batch_source(data, 42)(8)[0, :3].tolist()
    assert f"first {first} draw {draw(42)} epoch 1" in reference(checkout, data, 0.01).output


def test_a_program_for_a_gpu_runs_on_one_thread_of_a_processor_when_it_is_told_to(
    checkout: Path, data: Path
) -> None:
    asks = """
assert torch.cuda.get_device_capability() == (9, 0)
torch.cuda.manual_seed(42)
device = torch.device("cuda")
autocast = torch.amp.autocast(device_type="cuda", dtype=torch.bfloat16)
@torch.compile(fullgraph=True)
def halved(x):
    return (x / 2).bfloat16()
with autocast:
    half = halved(torch.ones(3, 3, device=device) @ torch.ones(3, 3, dtype=torch.bfloat16))
torch.cuda.synchronize()
print("on", half.device, half.dtype, torch.get_num_threads(), torch.cuda.max_memory_allocated())
torch.manual_seed(42)
"""
    program = PROGRAM.replace("torch.manual_seed(42)\n", asks)
    (checkout / "train.py").write_text(program, encoding="utf-8")
    run = reference(checkout, data, 0.1, device="cpu")
    assert "on cpu torch.float32 1 0" in run.output
    with pytest.raises(NoGpuError):
        reference(checkout, data, 0.1)


def test_constants_are_replaced_in_place_and_everything_else_stays() -> None:
    changed = replaced(PROGRAM, {"LONG": 3, "RATE": 0.25, "rotary.scale": 2.0})
    assert changed == (
        PROGRAM.replace("LONG = -1", "LONG = 3")
        .replace("RATE = 2**3 * 0.05 ", "RATE = 0.25 ")
        .replace("scale=1.0", "scale=2.0")
    )
    assert replaced(PROGRAM, {}, seed=1) == PROGRAM.replace("seed(42)", "seed(1)")
    assert replaced(PROGRAM, {}) == PROGRAM


@pytest.mark.parametrize(
    "name", ["MISSING", "DEPTH", "tokenizer", "BATCH", "started", "rotary.length", "base"]
)
def test_a_name_that_is_not_one_constant_of_the_program_is_refused(name: str) -> None:
    with pytest.raises(ConstantError, match=name):
        replaced(PROGRAM, {name: 1})


def test_a_constant_that_is_assigned_twice_and_a_program_without_a_seed_are_refused() -> None:
    with pytest.raises(ConstantError, match="assigned 2 times"):
        replaced("A = 1\nA = 2\n", {"A": 3})
    with pytest.raises(ConstantError, match="seed"):
        replaced("A = 1\n", {}, seed=3)


def test_training_rows_are_those_of_our_stream_shifted_by_one(data: Path) -> None:
    offer = Offer(data, 5)
    stream, T = prepare.batch_source(data, 5), offer.sequence_length
    loader = offer.make_dataloader(offer.tokenizer, 6, T, "train")
    for _ in range(3):
        x, y, epoch = next(loader)
        rows = stream(6)
        assert np.array_equal(x.cpu().numpy(), rows[:, :-1])
        assert np.array_equal(y.cpu().numpy(), rows[:, 1:])
        assert x.dtype == y.dtype == torch.int64
        assert x.is_contiguous()
        assert y.is_contiguous()
        assert epoch == 1


@pytest.mark.parametrize("packed", [False, True])
def test_an_epoch_ends_when_all_rows_were_served(data: Path, tmp_path: Path, packed: bool) -> None:
    own = shutil.copytree(data, tmp_path / "own")
    T = prepare.settings(own).sequence_length
    tokens = np.load(own / "train" / "tokens.npy")
    rows = len(tokens) // T
    if packed:
        rows = len(tokens) // (T + 1)
        np.save(own / "train" / "tokens.npy", tokens[: rows * (T + 1)].reshape(rows, T + 1))
    offer = Offer(own, 5)
    loader = offer.make_dataloader(offer.tokenizer, rows - 1, T, "train")
    assert [next(loader)[2] for _ in range(4)] == [1, 1, 2, 3]


@pytest.mark.parametrize(("length", "split"), [(127, "train"), (128, "val")])
def test_rows_of_another_length_or_of_validation_are_refused(
    data: Path, length: int, split: str
) -> None:
    offer = Offer(data, 5)
    with pytest.raises(ValueError, match="expected T = 128 and split 'train'"):
        offer.make_dataloader(offer.tokenizer, 4, length, split)


@pytest.mark.parametrize("batch", [64, 48, 2000])  # whole, with a rest, larger than the shard
def test_the_score_is_that_of_our_own_metric_whatever_the_batch(data: Path, batch: int) -> None:
    torch.manual_seed(0)
    offer = Offer(data, 1)
    model = Unigram(offer.tokenizer.get_vocab_size())
    shapes = set()
    model.register_forward_pre_hook(lambda _, inputs: shapes.add(tuple(inputs[0].shape)))
    expected = prepare.metric(lambda tokens: model.table[tokens], data, "selection")
    assert offer.evaluate_bpb(model, offer.tokenizer, batch) == pytest.approx(expected, rel=1e-6)
    assert shapes == {(batch, offer.sequence_length)}


def test_targets_without_bytes_do_not_count(data: Path, tmp_path: Path) -> None:
    own = shutil.copytree(data, tmp_path / "own")
    sizes = np.load(own / "token_bytes.npy")
    sizes[ord("e")], sizes[ord("q")] = 0, 3
    np.save(own / "token_bytes.npy", sizes)
    offer = Offer(own, 1)
    model = Unigram(offer.tokenizer.get_vocab_size())
    expected = prepare.metric(lambda tokens: model.table[tokens], own, "selection")
    assert offer.evaluate_bpb(model, offer.tokenizer, 64) == pytest.approx(expected, rel=1e-6)
    assert offer.evaluate_bpb(model, offer.tokenizer, 64) != pytest.approx(
        prepare.metric(lambda tokens: model.table[tokens], data, "selection"), rel=1e-2
    )


def attention(window: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Each query's softmax over the keys that it may see, written out: (B, T, H, D)."""
    out = torch.zeros_like(q)
    for i in range(q.shape[1]):
        seen = slice(max(0, i - window), i + 1)
        weights = torch.einsum("bhd,bkhd->bhk", q[:, i], k[:, seen]) / math.sqrt(q.shape[-1])
        out[:, i] = torch.einsum("bhk,bkhd->bhd", weights.softmax(-1), v[:, seen])
    return out


@pytest.mark.parametrize("window", [128, 64, 16, 5, 0])
@pytest.mark.parametrize("flex", [False, True])
def test_attention_looks_back_as_far_as_the_window_says(window: int, flex: bool) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 128, 2, 16)
    fa3 = kernels(128, flex)("any/repository").flash_attn_interface

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return fa3.flash_attn_func(q, k, v, causal=True, window_size=(window, 0))

    compiled = torch.compile(attend, dynamic=False, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        y = (compiled if flex else attend)(q, k, v)
    assert torch.allclose(y, attention(window, q, k, v), atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("window", [1024, 512, 128, 300])
def test_compiled_attention_and_its_gradients_are_right_on_a_gpu(window: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 1024, 2, 128, device="cuda", requires_grad=True) for _ in range(3)]
    fa3 = kernels(1024)("any/repository").flash_attn_interface

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        half = (one.bfloat16() for one in (q, k, v))
        return fa3.flash_attn_func(*half, causal=True, window_size=(window, 0)).float()

    ours = torch.compile(attend, dynamic=False)(*inputs)
    theirs = attention(window, *inputs)
    weights = torch.randn_like(theirs)
    assert torch.allclose(ours, theirs, atol=0.03)
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        assert (one - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize(("causal", "window"), [(False, (-1, -1)), (True, (8, 8))])
def test_attention_to_later_tokens_is_refused(causal: bool, window: tuple[int, int]) -> None:
    q = torch.zeros(1, 16, 1, 8)
    fa3 = kernels(16)("any/repository").flash_attn_interface
    with pytest.raises(ValueError, match="causal"):
        fa3.flash_attn_func(q, q, q, causal=causal, window_size=window)


SUMMARY = """---
val_bpb:          0.997900
training_seconds: 300.1
total_seconds:    325.9
peak_vram_mb:     45060.2
mfu_percent:      39.80
total_tokens_M:   499.6
num_steps:        953
num_params_M:     50.3
"""


def test_the_last_summary_counts() -> None:
    early = SUMMARY.replace("0.997900", "0.1")
    run = parsed(f"{early}\rstep 00001\n{SUMMARY}")
    assert (run.val_bpb, run.num_steps, run.total_tokens_m) == (0.9979, 953, 499.6)


@pytest.mark.parametrize(
    ("printed", "missing"),
    [
        ("", "val_bpb"),
        (SUMMARY.replace("---", "***"), "val_bpb"),
        (SUMMARY.replace("0.997900", "nan"), "val_bpb"),
        (SUMMARY.replace("num_steps", "steps"), "num_steps"),
    ],
)
def test_a_figure_that_is_missing_or_not_finite_is_named(printed: str, missing: str) -> None:
    with pytest.raises(ReferenceFailedError, match=f"printed no {missing}"):
        parsed(f"step 1\n{printed}")


def test_a_crash_tells_the_last_words_without_overwritten_progress(
    checkout: Path, data: Path
) -> None:
    program = "print('\\rstep 1\\rstep 2', flush=True)\nraise SystemExit('out of memory')\n"
    (checkout / "train.py").write_text(program)
    with pytest.raises(ReferenceFailedError) as failure:
        reference(checkout, data, 1)
    assert str(failure.value) == (
        "train.py ended with exit code 1, its last words:\nstep 2\nout of memory"
    )


def test_a_program_that_hangs_is_ended_with_its_children(
    checkout: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bench.gpu_reference.BESIDE_S", 3.0)
    mark = tmp_path / "alive"
    child = f"import time; time.sleep(4); open({str(mark)!r}, 'w')"
    (checkout / "train.py").write_text(
        f"import subprocess, sys\nprint('begun')\nsubprocess.run([sys.executable, '-c', {child!r}])"
    )
    with pytest.raises(ReferenceFailedError, match=r"did not end within 3\.1 s(.|\n)*begun"):
        reference(checkout, data, 0.1)
    time.sleep(3)  # the child would be done by now
    assert not mark.exists()


def test_no_program_no_data_and_no_gpu_are_told_before_anything_starts(
    checkout: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ReferenceFailedError, match="name an autoresearch checkout"):
        reference(tmp_path / "absent", data, 1)
    with pytest.raises(DataError, match="no prepared data"):
        reference(checkout, tmp_path, 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (checkout / "train.py").write_text("import torch\ntorch.cuda.get_device_capability()\n")
    with pytest.raises(NoGpuError, match="asks for CUDA"):
        reference(checkout, data, 1)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.gpu_reference", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )


def test_the_command_line_prints_figures_for_people_and_for_programs(
    checkout: Path, data: Path, tmp_path: Path
) -> None:
    log = tmp_path / "run.log"
    done = command(
        str(checkout), "--data", str(data), "--seconds", "0.1", "--json", "--log", str(log)
    )
    answer = json.loads(done.stdout)
    assert answer["training_seconds"] == 0.1
    assert answer["constants"] == {}
    assert "output" not in answer
    assert "val_bpb:" in log.read_text()
    done = command(str(checkout), "--data", str(data), "--seconds", "0.1", "--constants", "best")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: TOTAL_BATCH_SIZE is assigned 0 times")
