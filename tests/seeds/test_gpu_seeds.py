"""The founders for a GPU, at a size that a processor can train: what holds there holds at any size.

What only a GPU runs (compiled steps, windows by flex attention) is compared with the plain path by
the tests that are marked `gpu`.
"""

import ast
import itertools
import json
import math
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import prepare
from evaluate.container import parse
from evaluate.graph import Model
from mutate.checks import MODEL_CALLS, Checks
from mutate.genome import constants, rewrite
from mutate.ranges import Choices, Interval, Value
from mutate.units import transplant
from population.individual import Scored
from population.task import Budget, BudgetKind
from tests.evaluate.conftest import Trial, text_data, trial

__all__ = ["text_data", "trial"]

ROOT = Path(__file__).parents[2]
FOUNDERS = ("gpt", "ngrams")
PARTS = ("Embedding", "Mixer", "FeedForward", "Block", "Model", "build_optimizer", "schedule")
MOST_LINES = 600
SMALL: dict[str, Value] = {
    "DEPTH": 4,
    "WIDTH": 64,
    "HEAD_WIDTH": 32,
    "SHORT_WINDOW": 16,
    "BATCH_TOKENS": 512,
    "BIGRAM_ROWS": 1024,
    "TRIGRAM_ROWS": 1024,
}
"""What replaces the sizes that a GPU needs; the other constants are tried as they are."""
BFLOAT16 = ('device.type == "cuda"', "True")
"""An edit under which a program computes on a processor as it does on a GPU."""
TEXT = torch.tensor(list(b"in the beginning was the word, and then more words. " * 40))

Load = Callable[..., Any]


def on_a_gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs a GPU; what compilers warn of there is no failure."""
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    patient = pytest.mark.timeout(400)(pytest.mark.filterwarnings("default")(test))
    return pytest.mark.gpu(absent(patient))


class Run:
    """Stands in for the client's session: a few steps of a text that repeats itself."""

    sequence_length, vocab_size, evaluation_batch, progress = 64, 256, 4, 0.0

    def __init__(self, steps: int = 2, device: str = "cpu") -> None:
        self.steps, self.device = steps, device
        self.calls: list[str] = []
        self.losses: list[float] = []
        self.last = float("nan")

    def register(self, model: torch.nn.Module) -> None:
        self.calls.append("register")

    def warmup_tokens(self, rows: int) -> torch.Tensor:
        self.calls.append("warmup_tokens")
        return torch.randint(0, 256, (rows, self.sequence_length)).to(self.device)

    def batches(self, rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.calls.append("batches")
        for step in range(self.steps):
            self.progress = step / self.steps
            x, y = rows_of_text(rows, self.sequence_length, step)
            yield x.to(self.device), y.to(self.device)

    def report(self, loss: torch.Tensor) -> None:
        self.losses.append(float(loss))

    def deliver(self, model: torch.nn.Module) -> None:
        self.calls.append("deliver")
        x, y = rows_of_text(16, self.sequence_length, self.steps)
        with torch.no_grad():
            logits = model.eval()(x.to(self.device))
        self.last = F.cross_entropy(logits.flatten(0, 1), y.to(self.device).flatten()).item()


def rows_of_text(rows: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(TEXT) - length - 1, (rows, 1), generator=generator)
    taken = TEXT[starts + torch.arange(length + 1)]
    return taken[:, :-1].contiguous(), taken[:, 1:].contiguous()


def source_of(name: str) -> str:
    return (ROOT / "seeds" / "gpu" / f"{name}.py").read_text()


def reduced(source: str, **changed: Value) -> str:
    declared = {constant.name for constant in constants(source)}
    sizes = {name: value for name, value in SMALL.items() if name in declared}
    return rewrite(source, sizes | changed)


def edited(source: str, edit: tuple[str, str]) -> str:
    assert edit[0] in source
    return source.replace(*edit)


def model_of(program: Any, T: int = Run.sequence_length) -> torch.nn.Module:
    """Return the founder's model with noise on its weights, as some of them start at zero."""
    torch.manual_seed(0)
    model: torch.nn.Module = program.Model(256, T)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    return model


def tokens(rows: int = 4, T: int = Run.sequence_length, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (rows, T), generator=torch.Generator().manual_seed(seed))


def log_probs(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return F.log_softmax(model(x), dim=-1)


def extremes(constant: Any) -> list[Value]:
    """Return the legal values of a constant: all choices, or both ends."""
    found = constant.range
    if isinstance(found, Choices):
        return list(found.values)
    kind = int if found.integer else float
    return [kind(found.low), kind(found.high)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on many threads spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_garbage_frozen() -> Iterator[None]:
    """A founder turns the collection of garbage off for its clock; a test process lives on."""
    import gc

    yield
    gc.unfreeze()
    gc.enable()


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a founder at reduced size, or a given text, against a stand-in for its session."""

    def load(name: str, source: str | None = None, run: Run | None = None) -> types.ModuleType:
        double: Any = types.ModuleType("prepare")
        double.start = lambda: run
        monkeypatch.setitem(sys.modules, "prepare", double)
        torch.manual_seed(0)
        module = types.ModuleType(f"founder_{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)  # compilers look it up
        exec(compile(source or reduced(source_of(name)), f"{name}.py", "exec"), module.__dict__)
        return module

    return load


@pytest.mark.parametrize("name", FOUNDERS)
def test_a_founder_is_one_file_that_passes_the_checks_and_names_its_sources(name: str) -> None:
    source = source_of(name)
    tree = ast.parse(source)
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {module.split(".")[0] for module in imported} <= {"torch", "prepare", "gc", "functools"}
    assert source.count("\n") < MOST_LINES
    assert re.search(r"Sources: .+ (19|20)\d\d.+section", ast.get_docstring(tree) or "", re.DOTALL)
    assert Checks(required_calls=MODEL_CALLS).refusal(source) == ""


@pytest.mark.parametrize("name", FOUNDERS)
def test_every_constant_declares_a_range_that_holds_its_value(name: str) -> None:
    source = source_of(name)
    found = constants(source)
    assigned = {
        target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert assigned == {constant.name for constant in found}
    for constant in found:
        assert constant.range.declared, constant.name
        assert constant.value in constant.range, constant.name


@pytest.mark.parametrize("name", FOUNDERS)
def test_every_legal_value_of_every_constant_trains(name: str, load: Load) -> None:
    source = source_of(name)
    for constant in constants(source):
        assert isinstance(constant.range, Interval | Choices)
        for value in extremes(constant):
            if constant.name in SMALL and constant.name != "DEPTH":
                continue
            run = Run()
            changed = {"DEPTH": 2, "BATCH_TOKENS": 256, constant.name: value}
            load(name, reduced(source, **changed), run).main()
            assert run.last < 20, f"{constant.name} = {value}"


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("host", FOUNDERS)
def test_a_founder_trains_with_any_part_of_another(host: str, part: str, load: Load) -> None:
    for donor in FOUNDERS:
        if donor != host:
            child = transplant(reduced(source_of(host)), reduced(source_of(donor)), part)
            run = Run()
            load(host, child, run).main()
            assert run.last < 20, donor


@pytest.mark.parametrize("name", FOUNDERS)
def test_a_founder_registers_warms_up_learns_and_delivers(name: str, load: Load) -> None:
    run = Run(steps=60)
    load(name, run=run).main()
    order = list(dict.fromkeys(run.calls))
    assert order == ["register", "warmup_tokens", "batches", "deliver"]
    assert len(run.losses) == 3
    assert run.losses[0] > 4.0
    assert run.last < 0.5 * run.losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", FOUNDERS)
def test_the_harness_trains_and_scores_it_better_than_counting_bytes(
    name: str, low: bool, trial: Trial, text_data: Path
) -> None:
    source = reduced(source_of(name), DEPTH=2, BATCH_TOKENS=256)
    source = edited(source, BFLOAT16) if low else source
    result = trial(source, Budget(BudgetKind.STEPS, 40))
    assert isinstance(result.outcome, Scored), f"{result.outcome}\n{result.log[-2000:]}"
    rows = torch.from_numpy(prepare.evaluation_rows(text_data, "selection")[:, 1:].astype(int))
    share = torch.bincount(rows.flatten(), minlength=256) / rows.numel()
    unigram_bits = -(share[share > 0] * share[share > 0].log2()).sum().item()
    assert result.outcome.value < unigram_bits - 0.5


@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", FOUNDERS)
def test_the_exported_graph_passes_the_container_and_gives_the_same_logits(
    name: str, low: bool, load: Load
) -> None:
    source = reduced(source_of(name))
    model = model_of(load(name, edited(source, BFLOAT16) if low else source))
    model.train()  # as it is handed in
    x = tokens(Run.evaluation_batch)
    graph, table, extra = prepare.trace(model, (x.shape[0], x.shape[1]), "cpu")
    document = {"version": 1, "tensors": table, "graph": graph}
    container = parse(json.dumps(document, allow_nan=False).encode(), max_tensor_bytes=64 << 20)
    memory = bytearray(container.size)
    present = prepare.named_tensors(model) | extra
    for entry in container.tensors.values():
        data = present[entry.name].detach().contiguous().view(-1).view(torch.uint8)
        memory[entry.offset : entry.offset + entry.size] = data.numpy().tobytes()
    logits = Model(container, bytes(memory), "cpu")(x)
    assert logits.shape == (*x.shape, 256)
    assert logits.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(logits, model.eval()(x))


@pytest.mark.parametrize("name", FOUNDERS)
def test_a_prediction_depends_on_its_own_row_up_to_its_own_position_only(
    name: str, load: Load
) -> None:
    model = model_of(load(name)).eval()
    x, cut = tokens(), 37
    before = log_probs(model, x)
    future, other_rows = x.clone(), x.clone()
    future[:, cut:] = tokens(seed=1)[:, cut:]
    other_rows[1:] = tokens(seed=1)[1:]
    after = log_probs(model, future)
    assert (after[:, :cut] - before[:, :cut]).abs().max() < 1e-4
    assert (log_probs(model, other_rows)[0] - before[0]).abs().max() < 1e-4
    assert (after[:, cut:] - before[:, cut:]).abs().max() > 1e-2


@pytest.mark.parametrize("name", FOUNDERS)
def test_evaluation_repeats_itself_and_changes_no_state(name: str, load: Load) -> None:
    model = model_of(load(name)).eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert torch.equal(log_probs(model, tokens()), log_probs(model, tokens()))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", FOUNDERS)
def test_windows_follow_the_pattern_end_with_the_whole_row_and_never_exceed_it(
    name: str, load: Load
) -> None:
    program = load(name, reduced(source_of(name), WINDOW_PATTERN="SSL", DEPTH=6, SHORT_WINDOW=256))
    seen = [program.window_of(layer, 2048) for layer in range(6)]
    assert seen == [256, 256, 2048, 256, 256, 2048]
    assert program.window_of(4, 2048) == 256
    assert {program.window_of(layer, 128) for layer in range(6)} == {128}
    short = load(name, reduced(source_of(name), WINDOW_PATTERN="SSSL", DEPTH=2))
    assert short.window_of(1, 2048) == 2048


def spelled_out(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int
) -> torch.Tensor:  # (B, H, T, d)
    rows = []
    for t in range(q.shape[2]):
        near = slice(max(0, t - window + 1), t + 1)
        score = (q[:, :, t : t + 1] * k[:, :, near]).sum(-1) / math.sqrt(q.shape[3])
        rows.append((score.softmax(-1).unsqueeze(-1) * v[:, :, near]).sum(2))
    return torch.stack(rows, dim=2)


@pytest.mark.parametrize("window", [1, 5, 16, 32])
@pytest.mark.parametrize("name", FOUNDERS)
def test_attention_sees_exactly_its_window(name: str, window: int, load: Load) -> None:
    q, k, v = torch.randn(3, 2, 2, 32, 8, generator=torch.Generator().manual_seed(3)).unbind()
    y = load(name).attend(q, k, v, window)
    torch.testing.assert_close(y, spelled_out(q, k, v, window))


@pytest.mark.parametrize("name", FOUNDERS)
def test_a_training_step_with_windows_is_that_of_masked_attention(name: str, load: Load) -> None:
    program = load(name)
    x, y = rows_of_text(4, 64, 0)
    gradients = []
    for window in (None, spelled_out):
        model = model_of(program).train()
        if window is not None:
            for module in model.modules():
                if getattr(module, "window", 64) < 64:
                    span = module.window
                    module.windowed = lambda q, k, v, span=span: spelled_out(q, k, v, span)
        F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, other, rtol=1e-3, atol=3e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", FOUNDERS)
def test_flex_attention_is_used_in_training_alone_and_computes_the_same(
    name: str, load: Load
) -> None:
    program = load(name, reduced(source_of(name), SHORT_WINDOW=128))
    model, x = model_of(program, T=384), tokens(2, 384)
    plain = log_probs(model.train(), x)
    program.use_flex_attention(model, 384, "cpu")
    used = [m.windowed for m in model.modules() if isinstance(m, program.Mixer)]
    assert [one is not None for one in used] == [True, True, True, False]
    torch.testing.assert_close(log_probs(model, x), plain, rtol=1e-4, atol=1e-4)
    for module in model.modules():
        module.windowed = None if not isinstance(module, program.Mixer) else forbidden
    torch.testing.assert_close(log_probs(model.eval(), x), plain, rtol=1e-4, atol=1e-4)


def forbidden(*_: torch.Tensor) -> torch.Tensor:
    raise AssertionError("this path is for training")


def step_once(program: Any, model: torch.nn.Module, optimizer: Any) -> None:
    x, y = rows_of_text(8, 64, 5)
    F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
    program.set_rates(optimizer, 0.3)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", FOUNDERS)
def test_the_first_step_after_the_warm_up_is_that_of_an_untouched_program(
    name: str, load: Load
) -> None:
    program = load(name)
    after = []
    for warm in (False, True):
        torch.manual_seed(0)
        model = program.Model(256, 64)
        optimizer = program.build_optimizer(model)
        start = {key: value.clone() for key, value in model.state_dict().items()}
        if warm:
            loss_of = program.training_loss(model, Run())
            program.warm_up(Run(), model, optimizer, loss_of, 8)
            for key, value in model.state_dict().items():
                assert torch.equal(value, start[key]), key
            assert all(p.grad is None for p in model.parameters())
            assert not any(one.state for one in optimizer.optimizers)
        for _ in range(2):
            step_once(program, model, optimizer)
        moved = [not torch.equal(v, start[key]) for key, v in model.state_dict().items()]
        assert sum(moved) > 10
        after.append(model.state_dict())
    assert all(torch.equal(value, after[1][key]) for key, value in after[0].items())


@pytest.mark.parametrize("name", FOUNDERS)
def test_nothing_is_left_to_compile_after_the_warm_up(name: str, load: Load) -> None:
    program = load(name)
    compiled, optimizer, graphs = warmed_up(program)
    before, groups = len(graphs), optimizer.optimizers[1].param_groups
    assert before == 1 + len({p.shape[-2:] for group in groups for p in group["params"]})
    for progress in (0.0, 0.4, 0.9):
        x, y = rows_of_text(8, 64, 0)
        compiled(x, y).backward()
        program.set_rates(optimizer, progress)
        optimizer.step()
        optimizer.zero_grad()
    assert len(graphs) == before


@pytest.mark.parametrize("name", [*FOUNDERS, "hybrid"])
def test_children_that_differ_in_no_whole_number_run_what_their_parent_compiled(
    name: str, load: Load
) -> None:
    floats = [one for one in constants(source_of(name)) if isinstance(one.value, float)]
    assert len(floats) > 10
    changed = {one.name: next(v for v in extremes(one) if v != one.value) for one in floats}
    child = reduced(source_of(name), **changed)
    (_, _, before), (_, _, after) = (warmed_up(load(name, text)) for text in (None, child))
    assert before == after


def warmed_up(program: Any) -> tuple[Callable[..., Any], Any, list[str]]:
    """Return a compiled loss and its optimizer after the warm-up, and what compilers were given."""
    graphs: list[str] = []

    def written(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph.print_readable(print_output=False))
        return graph.forward

    torch._dynamo.reset()
    model = program.Model(256, 64)
    optimizer = program.build_optimizer(model)
    muon = optimizer.optimizers[1]
    muon.update = torch.compile(muon.update, dynamic=False, backend=written)
    loss_of = program.training_loss(model, Run())
    step = torch.compile(loss_of, dynamic=False, fullgraph=True, backend=written)
    program.warm_up(Run(), model, optimizer, step, 8)
    return step, optimizer, graphs


@pytest.mark.parametrize("name", FOUNDERS)
def test_a_batch_in_parts_gives_the_gradients_of_the_whole_batch(name: str, load: Load) -> None:
    seen: list[list[torch.Tensor]] = []
    for parts in (1, 2):
        run = Run()
        program = load(name, run=run)
        program.micro_batch = lambda model, run, parts=parts: 8 // parts
        x, y = rows_of_text(8, 64, 0)
        pieces = list(zip(x.chunk(parts), y.chunk(parts), strict=True))
        run.batches = lambda rows, pieces=pieces: iter(pieces)  # type: ignore[method-assign]
        build = program.build_optimizer
        program.build_optimizer = lambda model, build=build: recording(build(model), model, seen)
        program.warm_up = lambda *_: None
        program.main()
    assert len(seen) == 2  # one step each
    for whole, parted in zip(*seen, strict=True):
        assert (parted - whole).norm() <= 2e-2 * whole.norm() + 1e-6  # bfloat16 among them


def recording(optimizer: Any, model: torch.nn.Module, seen: list[list[torch.Tensor]]) -> Any:
    step = optimizer.step

    def recorded() -> None:
        seen.append([p.grad.float().clone() for p in model.parameters() if p.grad is not None])
        step()

    optimizer.step = recorded
    return optimizer


GIB = 1 << 30


@pytest.mark.parametrize("name", FOUNDERS)
def test_rows_on_the_device_divide_the_batch_and_follow_its_memory(
    name: str, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = load(name, source_of(name))
    monkeypatch.setattr(program, "fitting", lambda rows: rows // 2, raising=False)  # for 8 GiB
    with torch.device("meta"):
        model = program.Model(8192, 2048)
    run = types.SimpleNamespace(device="cuda", sequence_length=2048, vocab_size=8192)
    rows = []
    for memory in (8, 24, 80, 141):
        device = types.SimpleNamespace(total_memory=memory * GIB)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, device=device: device)
        rows.append(program.micro_batch(model, run))
    batch = program.BATCH_TOKENS // 2048
    assert all(batch % count == 0 for count in rows)
    assert rows == sorted(rows)
    assert rows[0] >= 2
    assert 8 <= rows[1] <= 32
    assert rows[2:] == [batch, batch]
    run.device = "cpu"
    assert program.micro_batch(model, run) == batch


@pytest.mark.parametrize("name", FOUNDERS)
def test_the_rate_rises_from_above_zero_and_falls_to_its_floor(name: str, load: Load) -> None:
    program = load(name, reduced(source_of(name), WARMUP=0.05))
    rates = [program.schedule(step / 200) for step in range(201)]
    assert 0.0 < rates[0] < 1.0
    assert max(rates) == 1.0
    assert rates[-1] == pytest.approx(program.FINAL_RATE)
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))


@pytest.mark.parametrize("name", FOUNDERS)
def test_momentum_rises_and_decay_falls_to_zero_with_the_budget(name: str, load: Load) -> None:
    program = load(name)
    optimizer = program.build_optimizer(program.Model(256, 64))
    told = []
    for progress in (0.0, 0.5, 1.0):
        program.set_rates(optimizer, progress)
        told += [(g["momentum"], g["decay"]) for g in optimizer.param_groups if "momentum" in g][:1]
    assert told[0][0] == pytest.approx(program.FIRST_MOMENTUM, abs=2e-3)
    assert told[1][0] == told[2][0] == pytest.approx(program.MOMENTUM)
    assert told[0][1] == program.WEIGHT_DECAY > told[1][1] > told[2][1] == 0.0


@pytest.mark.parametrize("name", FOUNDERS)
def test_every_parameter_is_trained_by_one_optimizer_and_only_large_matrices_by_muon(
    name: str, load: Load
) -> None:
    program = load(name)
    model = program.Model(256, 64)
    optimizer = program.build_optimizer(model)
    trained = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(map(id, model.parameters()))
    matrices = {id(p) for group in optimizer.optimizers[1].param_groups for p in group["params"]}
    expected = {
        id(p)
        for key, p in model.named_parameters()
        if key.endswith((".qkv", ".out.weight", ".up.weight", ".down.weight"))
    }
    assert matrices == expected


@pytest.mark.parametrize("shape", [(2, 48, 48), (2, 96, 32), (2, 32, 96)])
@pytest.mark.parametrize("name", FOUNDERS)
def test_orthogonalizing_brings_singular_values_near_one_and_keeps_directions(
    name: str, shape: tuple[int, ...], load: Load
) -> None:
    short = min(shape[1:])
    generator = torch.Generator().manual_seed(2)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    values = torch.logspace(-3, 0, short) / torch.logspace(-3, 0, short).norm()
    lifted = values.clamp_min(2e-3)  # of the norm: what its range covers
    y = load(name).orthogonalize(left * lifted @ right)
    found = left.mT @ y @ right.mT
    diagonal = found.diagonal(dim1=-2, dim2=-1)
    assert diagonal.min() > 0.8
    assert diagonal.max() < 1.2
    assert (found - torch.diag_embed(diagonal)).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(2, 48, 48), (2, 96, 32), (2, 32, 96)])
@pytest.mark.parametrize("name", FOUNDERS)
def test_muon_decays_only_weights_that_its_step_shrinks_anyway(
    name: str, shape: tuple[int, ...], load: Load
) -> None:
    program = load(name)
    generator = torch.Generator().manual_seed(4)
    weights, gradients = torch.randn(2, *shape, generator=generator).unbind()
    moved = []
    for decay in (0.0, 0.5):
        w = weights.clone()
        shorter = -1 if shape[1] >= shape[2] else -2
        states = torch.zeros(shape), torch.zeros_like(weights.mean(shorter, keepdim=True))
        numbers = torch.tensor([0.01, 0.9, decay, 0.95]).unbind()
        program.muon_update(w, gradients.clone(), *states, *numbers)
        moved.append(w - weights)
    step, extra = moved[0], moved[1] - moved[0]
    shrinks = step * weights < 0
    torch.testing.assert_close(
        extra, torch.where(shrinks, -0.005 * weights, 0.0), atol=1e-6, rtol=0
    )
    longer = step.square().mean(-1 if shape[1] >= shape[2] else -2)
    assert (longer.std() / longer.mean()) < 0.05  # neurons move equally far


def test_hashed_rows_depend_on_the_last_tokens_of_their_own_row_alone(load: Load) -> None:
    ngrams = load("ngrams").NGrams(8, 0)
    x = tokens(3, 40)
    two, three = ngrams.rows(x)
    assert two.dtype == three.dtype == torch.int64
    for t in range(40):
        for found, reach in ((two, 1), (three, 2)):
            other = tokens(3, 40, seed=1)
            other[1, max(0, t - reach) : t + 1] = x[1, max(0, t - reach) : t + 1]
            again = ngrams.rows(other)[reach - 1]
            assert (again[1, t] == found[1, t]) or t < reach, (t, reach)
    alone = [ngrams.rows(row[None])[1] for row in x]
    assert torch.equal(three, torch.cat(alone))


def test_hashed_rows_start_from_a_constant_and_tell_orders_apart(load: Load) -> None:
    ngrams = load("ngrams").NGrams(8, 0)
    x = torch.tensor([[7, 9, 7, 9], [9, 7, 9, 7]])
    two, three = ngrams.rows(x)
    padded = torch.cat((torch.zeros(2, 2, dtype=torch.int64), x), dim=1)
    assert torch.equal(two, ngrams.rows(padded)[0][:, 2:])
    assert torch.equal(three, ngrams.rows(padded)[1][:, 2:])
    assert two[0, 1] != two[1, 1]


@pytest.mark.parametrize("rows", [1000, 4096])
def test_hashes_spread_and_different_tables_confuse_different_ngrams(rows: int, load: Load) -> None:
    source = rewrite(reduced(source_of("ngrams")), {"BIGRAM_ROWS": rows, "TRIGRAM_ROWS": rows})
    program = load("ngrams", source)
    pairs = torch.cartesian_prod(torch.arange(0, 8192, 128), torch.arange(0, 8192, 128))
    used = []
    for salt in range(4):
        two, _ = program.NGrams(8, salt).rows(pairs)
        row = two[:, 1]
        assert (row.min() >= 0) and (row.max() < rows)
        expected = rows * (1.0 - math.exp(-len(pairs) / rows))
        assert len(row.unique()) > 0.9 * expected
        used.append(row)
    same = used[0][:, None] == used[0]
    both = (same & (used[1][:, None] == used[1])).sum() - len(pairs)
    assert both < 0.05 * (same.sum() - len(pairs))


@on_a_gpu
@pytest.mark.parametrize("name", FOUNDERS)
def test_on_a_gpu_the_compiled_step_is_that_of_masked_attention(name: str, load: Load) -> None:
    program = load(name, reduced(source_of(name), WIDTH=256, HEAD_WIDTH=128, SHORT_WINDOW=128))
    run = Run(device="cuda")
    run.sequence_length = 512
    x, y = (part.cuda() for part in rows_of_text(4, 512, 0))
    results = []
    for fast in (False, True):
        model = model_of(program, 512).cuda().train()
        loss_of = program.training_loss(model, run) if fast else plain_loss(model)
        loss = loss_of(x, y)
        loss.backward()
        matrices = [p.grad.float() for p in model.parameters() if p.ndim > 1]
        results.append((loss.item(), matrices))
    assert results[0][0] == pytest.approx(results[1][0], abs=2e-2)
    for plain, other in zip(results[0][1], results[1][1], strict=True):
        assert (plain - other).norm() < 0.1 * plain.norm() + 1e-4


@on_a_gpu
@pytest.mark.parametrize("name", FOUNDERS)
def test_on_a_gpu_a_founder_learns(name: str, load: Load) -> None:
    run = Run(steps=60, device="cuda")
    run.sequence_length = 512
    size = {"WIDTH": 256, "HEAD_WIDTH": 128, "SHORT_WINDOW": 128, "BATCH_TOKENS": 4096}
    load(name, reduced(source_of(name), **size), run).main()
    assert run.last < 0.5 * run.losses[0]


def plain_loss(model: torch.nn.Module) -> Callable[..., torch.Tensor]:
    return lambda x, y: F.cross_entropy(model(x).flatten(0, 1), y.flatten())
