"""What a run is about: a task that scores otherwise is another run's."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evolve.composition import founders, identity
from evolve.config import RunConfig, configure
from population.errors import RunError, TaskError
from population.identity import RunIdentity, stored_identity
from population.lineage import DuckLineage
from tests.evolve.conftest import POLYNOMIAL, Evolve


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return Path(shutil.copytree(POLYNOMIAL, tmp_path / "task"))


def known(config: RunConfig) -> RunIdentity:
    return identity(config, config.load_task(), None)


def begin(runs: Path, task: Path) -> RunIdentity:
    """Create the run `a` and return what it is about."""
    config = configure({"runs": runs, "name": "a", "task": task})
    DuckLineage.open(config.folder, known(config)).close()
    return stored_identity(config.folder)


def go_on(runs: Path, **given: object) -> None:
    config = configure({"runs": runs, "name": "a", **given})
    DuckLineage.open(config.folder, known(config)).close()


def edit(task: Path, old: str, new: str) -> None:
    text = (task / "task.toml").read_text()
    assert old in text
    (task / "task.toml").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"{shard}", ', "", 'evaluator.command was ["{python}", "{evaluator}", "{workdir}", '),
        ("room_s = 1.0", "room_s = 2.0", "cpu.budget.room_s was 1.0, is 2.0"),
        ('memory = "512 MiB"', 'memory = "1 GiB"', "cpu.memory was 536870912, is 1073741824"),
        ("[cpu]", "[cpu]\ncores = 2", "cpu.cores was 1, is 2"),
        ("[cpu]", "[cpu]\nscoring_s = 5.0", "cpu.scoring_s was 120.0, is 5.0"),
        ("[cpu]", "[cpu]\nprocesses = 65", "cpu.processes was 64, is 65"),
        ("[evaluator]", 'shards = ["a", "b", "c"]\n[evaluator]', 'is ["a", "b", "c"]'),
    ],
)
def test_a_run_is_not_continued_where_its_task_scores_otherwise_now(
    tmp_path: Path, task: Path, old: str, new: str, says: str
) -> None:
    begin(tmp_path, task)
    edit(task, old, new)
    with pytest.raises(RunError, match=re.escape(says)) as refusal:
        go_on(tmp_path)
    assert "Restore what the run began with" in str(refusal.value)
    assert "--from a" in str(refusal.value)


def test_what_decides_no_score_may_change_between_calls(tmp_path: Path, task: Path) -> None:
    begin(tmp_path, task)
    edit(task, 'seeds = ["seeds/line.py", "seeds/cubic.py"]', 'seeds = ["seeds/line.py"]')
    edit(task, "[cpu]", '[cpu]\nsource = "64 KiB"')
    edit(task, "amount = 5.0", "amount = 6.0")  # the run keeps the budget that it was born with
    (task / "program.md").write_text("be bold\n")
    moved = task.rename(task.with_name("moved"))
    go_on(tmp_path, task=moved)


def test_a_run_that_does_not_tell_what_decided_its_scores_is_continued(
    tmp_path: Path, task: Path
) -> None:
    config = configure({"runs": tmp_path, "name": "a", "task": task})
    DuckLineage.open(config.folder, replace(known(config), conditions="{}")).close()
    edit(task, "room_s = 1.0", "room_s = 2.0")
    go_on(tmp_path)


def test_a_budget_that_does_not_end_by_itself_is_kept_with_its_limit() -> None:
    folder = Path(__file__).parent.parent.parent
    config = configure({"runs": folder, "task": folder, "budget": "40steps"})
    assert json.loads(known(config).conditions)["cpu.budget.wall_limit_s"] == 120.0


def test_a_founder_that_is_no_program_is_refused_with_its_file_and_line(
    evolve: Evolve, tmp_path: Path, task: Path
) -> None:
    one, *others = sorted((task / "seeds").iterdir())
    one.write_text("A = 1\ndef broken(:\n")
    with pytest.raises(TaskError, match=rf"{one}: it does not parse: line 2: .*Mend it"):
        founders(configure({"runs": tmp_path, "task": task}).load_task())
    said = evolve("run", "--task", task, "--runs", tmp_path / "runs", "--evaluations", 4)
    assert said.code == 2
    assert f"{one}: it does not parse: line 2" in said.err
    assert not any(str(other) in said.err for other in others)
    assert "Ray" not in said.out
    assert not (tmp_path / "runs").exists()
