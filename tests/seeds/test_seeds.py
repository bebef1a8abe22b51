"""The founders: programs that keep the contract, learn, and can be varied and recombined."""

import ast
import json
import re
import sys
import tomllib
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

ROOT = Path(__file__).parents[2]
FOUNDERS = ("transformer", "bigram_muon", "convolution")
PARTS = ("Embedding", "Mixer", "FeedForward", "Block", "Model", "build_optimizer", "schedule")
SCALE = prepare.SCALES["cpu"]
TEXT = torch.tensor(list(b"in the beginning was the word, and then more words. " * 40))
DECLARATION = re.compile(
    r"^(?P<name>[A-Z][A-Z0-9_]*) = (?P<value>\S+)  # (?P<range>[^;\n]+)(; .+)?$", re.MULTILINE
)

Load = Callable[..., types.ModuleType]


class Run:
    """Stands in for the client's session: a few steps of a text that repeats itself."""

    sequence_length, vocab_size, device, progress = 32, SCALE.vocab_size, "cpu", 0.0

    def __init__(self, steps: int) -> None:
        self.steps, self.losses = steps, [0.0]
        self.calls: list[str] = []
        self.last = float("nan")

    def register(self, model: torch.nn.Module) -> None:
        self.calls.append("register")

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.calls.append("batches")
        for step in range(self.steps):
            self.progress = step / self.steps
            starts = torch.randint(0, len(TEXT) - self.sequence_length - 1, (batch_size, 1))
            rows = TEXT[starts + torch.arange(self.sequence_length + 1)]
            yield rows[:, :-1], rows[:, 1:]

    def report(self, loss: torch.Tensor | float) -> None:
        self.losses.append(float(loss))

    def deliver(self, model: torch.nn.Module) -> None:
        self.calls.append("deliver")
        x, y = next(self.batches(16))
        with torch.no_grad():
            self.last = F.cross_entropy(model.eval()(x).flatten(0, 1), y.flatten()).item()


def source_of(name: str) -> str:
    return (ROOT / "seeds" / f"{name}.py").read_text()


def model_of(module: types.ModuleType, *, alive: bool = True) -> torch.nn.Module:
    """Return the founder's model; `alive`: with noise on weights, as some start at zero."""
    torch.manual_seed(0)
    model: torch.nn.Module = module.Model(SCALE.vocab_size).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1 if alive else 0.0)
    return model


def tokens(seed: int = 0, rows: int = SCALE.evaluation_batch) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, SCALE.sequence_length)
    return torch.randint(0, SCALE.vocab_size, shape, generator=generator)


def log_probs(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return F.log_softmax(model(x), dim=-1)


def extremes(declared: str) -> list[str]:
    """Return the legal values of a range comment: all choices, or both ends."""
    if declared.startswith("one of "):
        return [choice.strip() for choice in declared.removeprefix("one of ").split(",")]
    return declared.removeprefix("log ").split("..")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on many threads spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a founder, or an edited text of it, against a run of a few steps."""

    def load(name: str, source: str | None = None, run: Run | None = None) -> types.ModuleType:
        double: Any = types.ModuleType("prepare")
        double.start = lambda: run
        monkeypatch.setitem(sys.modules, "prepare", double)
        torch.manual_seed(0)
        module = types.ModuleType(name)
        exec(compile(source or source_of(name), f"{name}.py", "exec"), module.__dict__)
        return module

    return load


def test_the_task_starts_from_exactly_these_founders() -> None:
    task = tomllib.loads((ROOT / "task.toml").read_text())
    assert task["seeds"] == [f"seeds/{name}.py" for name in FOUNDERS]
    assert {path.stem for path in (ROOT / "seeds").glob("*.py")} == set(FOUNDERS)


@pytest.mark.parametrize("name", FOUNDERS)
def test_a_founder_is_complete_in_one_short_file_that_names_its_sources(name: str) -> None:
    source = source_of(name)
    tree = ast.parse(source)
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {module.split(".")[0] for module in imported} <= {"torch", "prepare"}
    assert source.count("\n") < 350
    assert re.search(r"Sources: .+ (19|20)\d\d.+section", ast.get_docstring(tree) or "", re.DOTALL)


@pytest.mark.parametrize("name", FOUNDERS)
def test_every_constant_declares_a_range_that_holds_its_value(name: str) -> None:
    source = source_of(name)
    declared = {m["name"]: (m["value"], m["range"]) for m in DECLARATION.finditer(source)}
    assigned = {
        target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert assigned == set(declared)
    for value, declaration in declared.values():
        choices = extremes(declaration)
        if declaration.startswith("one of "):
            assert value in choices
        else:
            low, high = map(float, choices)
            assert low <= float(value) <= high
            assert low > 0 or not declaration.startswith("log ")


@pytest.mark.parametrize("name", FOUNDERS)
def test_every_legal_value_of_every_constant_trains(name: str, load: Load) -> None:
    source = source_of(name)
    for match in DECLARATION.finditer(source):
        for value in extremes(match["range"]):
            start, end = match.span("value")
            run = Run(steps=2)
            load(name, source[:start] + value + source[end:], run).main()
            assert run.last < 20, f"{match['name']} = {value}"


@pytest.mark.parametrize("name", FOUNDERS)
def test_the_exported_graph_passes_the_container_and_gives_the_same_logits(
    name: str, load: Load
) -> None:
    model = model_of(load(name))
    shape = (SCALE.evaluation_batch, SCALE.sequence_length)
    graph, table, constants = prepare.trace(model, shape, "cpu")
    document = {"version": 1, "tensors": table, "graph": graph}
    container = parse(json.dumps(document, allow_nan=False).encode(), max_tensor_bytes=64 << 20)
    memory = bytearray(container.size)
    present = prepare.named_tensors(model) | constants
    for entry in container.tensors.values():
        data = present[entry.name].detach().contiguous().view(-1).view(torch.uint8)
        memory[entry.offset : entry.offset + entry.size] = data.numpy().tobytes()
    logits = Model(container, bytes(memory), "cpu")(tokens())
    assert logits.shape == (*shape, SCALE.vocab_size)
    with torch.no_grad():
        assert torch.equal(logits, model(tokens()))


@pytest.mark.parametrize("name", FOUNDERS)
def test_a_prediction_depends_on_its_own_row_up_to_its_own_position_only(
    name: str, load: Load
) -> None:
    model = model_of(load(name))
    x, cut = tokens(), 57
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
    model = model_of(load(name))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert torch.equal(log_probs(model, tokens()), log_probs(model, tokens()))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", FOUNDERS)
def test_a_founder_registers_learns_and_delivers(name: str, load: Load) -> None:
    run = Run(steps=60)
    load(name, run=run).main()
    assert run.calls[:3] == ["register", "batches", "deliver"]
    assert run.losses[1] > 4.0
    assert run.last < 0.5 * run.losses[1]


@pytest.mark.parametrize("name", FOUNDERS)
def test_the_rate_rises_from_above_zero_and_ends_at_zero(name: str, load: Load) -> None:
    schedule = load(name).schedule
    rates = [schedule(step / 200) for step in range(201)]
    assert 0.0 < rates[0] < 1.0
    assert max(rates) == 1.0
    assert rates[-1] == 0.0


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("host", FOUNDERS)
def test_a_founder_runs_with_any_part_of_another(host: str, part: str, load: Load) -> None:
    for donor in FOUNDERS:
        run = Run(steps=2)
        program = load(host, run=run)
        setattr(program, part, getattr(load(donor), part))
        program.main()
        assert run.last < 20, donor
