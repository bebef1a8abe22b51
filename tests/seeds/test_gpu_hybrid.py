"""The hybrid founder for a GPU, at a size that a processor trains in seconds."""

import ast
import gc
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import prepare
from mutate.checks import Checks
from mutate.genome import Constant, constants, rewrite
from mutate.ranges import Choices, Value
from mutate.units import definitions, transplant
from population.individual import Scored
from population.task import Budget, BudgetKind
from tests.evaluate import conftest as harness

text_data, trial = harness.text_data, harness.trial  # fixtures

FOLDER = Path(__file__).parents[2] / "seeds" / "gpu"
SOURCE = (FOLDER / "hybrid.py").read_text()
OTHERS = [path.stem for path in FOLDER.glob("*.py") if path.stem != "hybrid"]
PARTS = (
    "Embedding", "Mixer", "FeedForward", "Block", "Model", "build_optimizer", "schedule", "main",
)  # fmt: skip
SMALL: dict[str, Value] = {"DEPTH": 3, "WIDTH": 64, "HEAD_WIDTH": 32, "BATCH_TOKENS": 256}
SHRUNK = {"WIDTH": 8, "BATCH_TOKENS": 1024}
"""What sets the time of a step is tried at this part of its legal values."""
V, T = 256, 32
TEXT = torch.tensor(list(b"in the beginning was the word, and then more words. " * 40))
GIGABYTE = 10**9

Load = Callable[..., Any]


class Run:
    """Stands in for the client's session: a few batches of a text that repeats itself."""

    sequence_length, vocab_size, progress = T, V, 0.0

    def __init__(self, batches: int = 4, device: str = "cpu") -> None:
        self.amount, self.device = batches, device
        self.losses: list[float] = []
        self.calls: list[str] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.random = torch.Generator().manual_seed(3)

    def register(self, model: torch.nn.Module) -> None:
        self.calls.append("register")

    def warmup_tokens(self, rows: int) -> torch.Tensor:
        self.calls.append("warm up")
        shape = (rows, self.sequence_length)
        return torch.randint(0, V, shape, generator=self.random).to(self.device)

    def batches(self, rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number in range(self.amount):
            self.calls.append("batch")
            self.progress = number / self.amount
            starts = torch.arange(rows).unsqueeze(1) * 37 % 1000 + number * rows
            text = TEXT[(starts + torch.arange(T + 1)) % len(TEXT)].to(self.device)
            yield text[:, :-1], text[:, 1:]

    def report(self, loss: torch.Tensor) -> None:
        self.losses.append(float(loss))

    def deliver(self, model: torch.nn.Module) -> None:
        self.calls.append("deliver")
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}


def shrunk(source: str) -> str:
    """Return a founder's text with small values for what it declares of them."""
    declared = {constant.name for constant in constants(source)}
    return rewrite(source, {name: SMALL[name] for name in SMALL.keys() & declared})


def sized(**changed: Value) -> str:
    return rewrite(SOURCE, SMALL | changed)


def model_of(program: Any, *, alive: bool = True) -> torch.nn.Module:
    """Return the founder's model; `alive`: with noise on weights, as some start at zero."""
    torch.manual_seed(0)
    model: torch.nn.Module = program.Model(V, T)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1 if alive else 0.0)
    return model


def tokens(seed: int = 0, rows: int = 4) -> torch.Tensor:
    return torch.randint(0, V, (rows, T), generator=torch.Generator().manual_seed(seed))


def extremes(constant: Constant) -> tuple[Value, ...]:
    """Return the legal values of a constant: all choices, or both ends."""
    if isinstance(constant.range, Choices):
        return constant.range.values
    return constant.range.at(0.0), constant.range.at(1.0)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Undo what the program does to its process."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    gc.unfreeze()
    gc.enable()


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load the founder, small unless another text is given, against a run of a few steps."""

    def load(source: str | None = None, run: Run | None = None) -> types.ModuleType:
        double: Any = types.ModuleType("prepare")
        double.start = lambda: run
        module = types.ModuleType("hybrid")
        monkeypatch.setitem(sys.modules, "prepare", double)
        monkeypatch.setitem(sys.modules, "hybrid", module)
        torch.manual_seed(0)
        exec(compile(source or sized(), "hybrid.py", "exec"), module.__dict__)
        return module

    return load


def test_it_is_complete_in_one_file_that_names_its_sources_and_passes_the_checks() -> None:
    tree = ast.parse(SOURCE)
    imported = {
        ((node.module if isinstance(node, ast.ImportFrom) else None) or node.names[0].name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in imported} == {"gc", "torch", "prepare"}
    assert SOURCE.count("\n") < 600
    assert re.search(r"Sources: .+ 20\d\d.+section", ast.get_docstring(tree) or "", re.DOTALL)
    assert not Checks(required_calls=("register", "batches", "deliver")).refusal(SOURCE)


def test_each_part_can_be_exchanged_alone() -> None:
    assert set(PARTS) <= definitions(SOURCE).keys()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("other", OTHERS)
def test_it_trains_with_a_part_of_another_founder_and_gives_its_own(
    other: str, part: str, load: Load
) -> None:
    texts = (SOURCE, (FOLDER / f"{other}.py").read_text())
    for host, donor in (texts, texts[::-1]):
        run = Run(batches=2)
        load(shrunk(transplant(host, donor, part)), run).main()
        assert run.calls[-1] == "deliver"
        assert all(p.isfinite().all() for p in run.weights.values())


def test_every_constant_declares_a_range_that_holds_its_value() -> None:
    declared = constants(SOURCE)
    assigned = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.Assign)]
    fixed = [node for node in assigned if "# fixed" in SOURCE.splitlines()[node.lineno - 1]]
    assert len(declared) == len(assigned) - len(fixed)
    for constant in declared:
        assert constant.range.declared, constant.name
        assert constant.value in constant.range, constant.name


@pytest.mark.parametrize("name", [constant.name for constant in constants(SOURCE)])
def test_every_legal_value_of_a_constant_trains(name: str, load: Load) -> None:
    found = next(constant for constant in constants(SOURCE) if constant.name == name)
    for value in extremes(found):
        run = Run(batches=2)
        small = value // SHRUNK[name] if name in SHRUNK else value
        load(sized(**{name: small}), run).main()
        assert run.calls[-1] == "deliver"
        assert all(p.isfinite().all() for p in run.weights.values()), f"{name} = {value}"


def test_it_registers_warms_up_trains_and_delivers_at_once(load: Load) -> None:
    run = Run(batches=60)
    load(run=run).main()
    assert run.calls[0] == "register"
    assert "batch" not in run.calls[: run.calls.index("warm up") + 2]
    assert run.calls[-2:] == ["batch", "deliver"]
    assert run.losses[0] > 5.0
    assert run.losses[-1] < 0.6 * run.losses[0]


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_harness_scores_it_better_than_the_frequencies_of_bytes(
    bfloat16: bool, trial: harness.Trial, text_data: Path
) -> None:
    source = sized()
    if bfloat16:
        assert "CPU_BFLOAT16 = False" in source
        source = source.replace("CPU_BFLOAT16 = False", "CPU_BFLOAT16 = True")
    result = trial(source, budget=Budget(BudgetKind.STEPS, 40))
    counts = np.bincount(np.asarray(prepare.evaluation_rows(text_data, "selection")).ravel())
    shares = counts[counts > 0] / counts.sum()
    assert isinstance(result.outcome, Scored), (result.outcome, result.log)
    assert result.outcome.value < -(shares * np.log2(shares)).sum()
    assert len(result.curve) == 2


def test_the_convolution_is_the_causal_one_from_the_first_position_on(load: Load) -> None:
    program = load()
    x, filters = torch.randn(2, 9, 5), torch.randn(5, 1, 4)
    expected = F.conv1d(F.pad(x.mT, (3, 0)), filters, groups=5).mT
    assert torch.allclose(program.convolve(x, filters), expected, atol=1e-6)
    for t in range(9):
        changed = x.clone()
        changed[:, t] += 1.0
        moved = (program.convolve(changed, filters) != program.convolve(x, filters)).any(-1).any(0)
        assert moved.tolist() == [t <= at < t + 4 for at in range(9)]


def test_most_layers_convolve_and_the_last_of_each_group_attends(load: Load) -> None:
    program = load(sized(DEPTH=7))
    kinds = [type(block.mixer).__name__ for block in program.Model(V, T).blocks]
    assert kinds == ["Mixer", "Mixer", "Attention"] * 2 + ["Mixer"]


@pytest.mark.parametrize("every", [1, 3, 6])  # attention alone, both, convolutions alone
def test_a_prediction_depends_on_its_own_row_up_to_its_own_position_only(
    every: int, load: Load
) -> None:
    model = model_of(load(sized(ATTENTION_EVERY=every))).eval()
    x = tokens()
    with torch.no_grad():
        before = model(x)
        for cut in (1, 2, 17):
            future, others = x.clone(), x.clone()
            future[:, cut:] = tokens(seed=1)[:, cut:]
            others[1:] = tokens(seed=1)[1:]
            assert (model(future)[:, :cut] - before[:, :cut]).abs().max() < 1e-4
            assert (model(future)[:, cut:] - before[:, cut:]).abs().max() > 1e-2
            assert (model(others)[0] - before[0]).abs().max() < 1e-4


def test_logits_are_float32_and_bounded(load: Load) -> None:
    source = sized(SOFTCAP=5.0).replace("CPU_BFLOAT16 = False", "CPU_BFLOAT16 = True")
    model = model_of(load(source))
    with torch.no_grad():
        model.get_parameter("head.weight").mul_(1000.0)
        logits = model(tokens())
    assert logits.dtype == torch.float32
    assert 4.9 < logits.abs().max() <= 5.0


def test_warming_up_leaves_weights_and_optimizer_as_they_were(load: Load) -> None:
    program, run = load(), Run()
    model = model_of(program)
    optimizer = program.build_optimizer(model)
    before = [p.detach().clone() for p in model.parameters()]
    program.warm_up(run, model, optimizer, program.training_loss(model, run), 8)
    assert run.calls.count("warm up") > 0
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert all(not part.state for part in optimizer.optimizers)


def test_training_after_a_warm_up_is_training_without_one(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm, cold = Run(), Run()
    load(run=warm).main()
    program = load(run=cold)
    monkeypatch.setattr(program, "warm_up", lambda *_: None)
    program.main()
    assert "warm up" not in cold.calls
    assert all(torch.equal(p, cold.weights[name]) for name, p in warm.weights.items())


def test_micro_batches_give_the_gradients_of_the_whole_batch(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = next(Run().batches(8))
    seen: list[list[torch.Tensor]] = []

    def look(optimizer: Any, progress: float) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        seen.append([p.grad.clone() for p in params])

    for rows, batches in ((8, 1), (2, 5)):  # the fifth belongs to a step that the bell cut off
        run = Run()
        program = load(run=run)
        parts = [tuple(part[i * rows % 8 :][:rows] for part in whole) for i in range(batches)]
        monkeypatch.setattr(run, "batches", lambda _, parts=parts: iter(parts))
        monkeypatch.setattr(program, "micro_batch", lambda *_, rows=rows: rows)
        monkeypatch.setattr(program, "set_rates", look)
        program.main()
        assert run.calls[-1] == "deliver"
    of_whole, of_parts = seen
    assert any(gradient.abs().max() > 1e-3 for gradient in of_whole)
    for one, other in zip(of_whole, of_parts, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("memory", "rows"),
    [(150.0 * GIGABYTE, 64), (84.0 * GIGABYTE, 64), (25.3 * GIGABYTE, 16), (8.4 * GIGABYTE, 4)],
)
def test_a_micro_batch_fits_the_memory_of_the_card(
    memory: float, rows: int, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = types.SimpleNamespace(total_memory=memory)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    run = types.SimpleNamespace(device="cuda", sequence_length=2048, vocab_size=8192)
    program = load(SOURCE)
    with torch.device("meta"):
        model = program.Model(8192, 2048)
    assert program.micro_batch(model, run) == rows
    assert program.BATCH_TOKENS // 2048 % rows == 0


def test_a_larger_model_gets_smaller_micro_batches_and_at_least_one_row(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = types.SimpleNamespace(device="cuda", sequence_length=2048, vocab_size=8192)
    found = []
    for memory in (84.0 * GIGABYTE, 1.0 * GIGABYTE):
        card = types.SimpleNamespace(total_memory=memory)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, card=card: card)
        program = load(rewrite(SOURCE, {"WIDTH": 1024, "DEPTH": 16}))
        with torch.device("meta"):
            model = program.Model(8192, 2048)
        found.append(program.micro_batch(model, run))
    assert found == [16, 1]


def test_orthogonalised_matrices_keep_their_directions_at_one_length(load: Load) -> None:
    program = load()
    for shape in ((3, 48, 96), (3, 96, 48), (2, 64, 64)):
        x = torch.randn(shape)
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        s = s.clamp(min=0.005 * s.norm(dim=-1, keepdim=True))
        y = program.orthogonalize(u @ torch.diag_embed(s) @ vh)
        along = torch.diagonal(u.mT @ y @ vh.mT, dim1=-2, dim2=-1)
        assert along.min() > 0.8
        assert along.max() < 1.2
        assert (y - u @ torch.diag_embed(along) @ vh).abs().max() < 1e-3


def test_a_stack_of_matrices_moves_as_each_would_alone(load: Load) -> None:
    program = load()
    together = [torch.nn.Parameter(torch.randn(24, 16)) for _ in range(3)]
    alone = [torch.nn.Parameter(p.detach().clone()) for p in together]
    optimizers = [program.Muon(together), *(program.Muon([p]) for p in alone)]
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(together, alone, strict=True):
            one.grad = torch.randn(24, 16, generator=generator)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_decay_shrinks_only_weights_that_the_step_takes_towards_zero(load: Load) -> None:
    program = load()
    moved = []
    for decay in (0.0, 0.5):
        p = torch.nn.Parameter(torch.ones(16, 16))
        p.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
        optimizer = program.Muon([p])
        optimizer.param_groups[0]["decay"] = decay
        optimizer.step()
        moved.append(p.detach())
    shrunk = moved[1] < moved[0] - 1e-6
    assert torch.equal(shrunk, moved[0] < 1.0)
    assert shrunk.any()
    assert not shrunk.all()


def test_each_kind_of_parameter_gets_its_own_rate_once(load: Load) -> None:
    program = load()
    model = model_of(program)
    optimizer = program.build_optimizer(model)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    by_width = (64 / 768) ** -0.5
    expected = {
        "embedding.table.weight": program.EMBEDDING_LR * by_width,
        "head.weight": program.HEAD_LR * by_width,
        "blocks.0.mixer.filters": program.SCALAR_LR,
        "blocks.0.keep": program.SCALAR_LR,
        "blocks.0.mixer.out.weight": program.MATRIX_LR,
        "blocks.2.feed_forward.up.weight": program.MATRIX_LR,
    }
    named = dict(model.named_parameters())
    assert {name: rates[id(named[name])] for name in expected} == pytest.approx(expected)


def test_rates_end_at_zero_and_momentum_rises_to_its_value(load: Load) -> None:
    program = load()
    optimizer = program.build_optimizer(model_of(program))
    groups, told = optimizer.param_groups, []
    for step in range(101):
        program.set_rates(optimizer, step / 100)
        told.append((groups[0]["lr"] / groups[0]["initial_lr"], groups[-1]["momentum"]))
    shares, momenta = zip(*told, strict=True)
    assert max(shares) == 1.0
    assert shares[0] > 0.0
    assert shares[-1] == 0.0
    assert list(momenta) == sorted(momenta)
    assert momenta[-1] == pytest.approx(program.MOMENTUM)
    assert groups[-1]["decay"] == 0.0


@pytest.mark.gpu
def test_compiled_on_a_gpu_it_trains_as_its_plain_text_does(load: Load) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    run = Run(batches=30, device="cuda")
    program = load(run=run)
    model = model_of(program).cuda()
    x, y = next(run.batches(8))
    plain = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    compiled = program.training_loss(model, run)(x, y)
    assert compiled.item() == pytest.approx(plain.item(), abs=0.05)
    program.main()
    assert run.losses[-1] < 0.8 * run.losses[0]
