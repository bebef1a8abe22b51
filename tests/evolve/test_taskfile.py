import re
import shutil
from pathlib import Path

import pytest

from evolve.taskfile import (
    REPOSITORY,
    format_budget,
    load_task,
    parse_budget,
    usual_device,
)
from population.errors import TaskError
from population.task import Budget, BudgetKind, Direction, EvaluatorKind
from tests.evolve.conftest import POLYNOMIAL


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(POLYNOMIAL, tmp_path / "task"))


def edit(folder: Path, old: str, new: str) -> Path:
    file = folder / "task.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return folder


def test_the_default_task_is_the_repository_itself() -> None:
    task = load_task(REPOSITORY)
    assert task.kind is EvaluatorKind.MODEL
    assert task.direction is Direction.MINIMIZE
    assert task.evaluator == REPOSITORY / "prepare.py"
    assert task.limits.memory_bytes == 4 << 30


def test_a_task_scored_by_a_command_keeps_its_argument_list() -> None:
    task = load_task(POLYNOMIAL)
    assert task.kind is EvaluatorKind.COMMAND
    assert task.direction is Direction.MAXIMIZE
    assert task.command == ("{python}", "{evaluator}", "{workdir}", "{shard}", "{seed}")


@pytest.fixture
def model_folder(task_folder: Path) -> Path:
    edit(task_folder, 'kind = "command"', 'kind = "model"')
    text = (task_folder / "task.toml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith("command")]
    (task_folder / "task.toml").write_text("\n".join(kept) + '\n[data]\nsource = "none"\n')
    return task_folder


@pytest.mark.parametrize("line", ["import prepare", "from prepare import Settings"])
def test_an_evaluator_that_imports_prepare_has_that_file_locked_with_it(
    model_folder: Path, line: str
) -> None:
    alone = load_task(model_folder)
    assert alone.helpers == ()
    alone.evaluator.write_text(f"{alone.evaluator_source}\n{line}\n")
    built = load_task(model_folder)
    assert built.helpers == (("prepare.py", (REPOSITORY / "prepare.py").read_text()),)
    (model_folder / "prepare.py").write_text("MINE = 1\n")
    assert load_task(model_folder).helpers == (("prepare.py", "MINE = 1\n"),)


def test_files_that_an_evaluator_imports_from_beside_it_are_locked_with_it(
    task_folder: Path,
) -> None:
    task = load_task(task_folder)
    (task_folder / "mine.py").write_text("from deeper import DEPTH\n")
    (task_folder / "deeper.py").write_text("import mine, math\nDEPTH = 3\n")
    (task_folder / "other.py").write_text("OTHER = 4\n")
    task.evaluator.write_text(f"import mine\n{task.evaluator_source}")
    with_them = load_task(task_folder)
    assert [name for name, _ in with_them.helpers] == ["mine.py", "deeper.py"]
    (task_folder / "deeper.py").write_text("import mine, math\nDEPTH = 4\n")
    assert load_task(task_folder).evaluator_sha256 != with_them.evaluator_sha256


def test_a_command_that_imports_the_program_means_the_one_that_it_scores(task_folder: Path) -> None:
    task = load_task(task_folder)
    (task_folder / task.artifact).write_text("VALUE = 1\n")
    task.evaluator.write_text(f"import {Path(task.artifact).stem}\n")
    assert load_task(task_folder).helpers == ()


def test_a_helper_with_the_name_of_a_package_of_ours_is_refused(task_folder: Path) -> None:
    (task_folder / "evaluate.py").write_text("")
    load_task(task_folder).evaluator.write_text("import evaluate\n")
    with pytest.raises(TaskError, match=r"evaluate\.py: evolve has a package of that name"):
        load_task(task_folder)


def test_helpers_of_an_evaluator_that_begins_with_a_mark_of_its_encoding_are_found(
    task_folder: Path,
) -> None:
    (task_folder / "mine.py").write_text("")
    load_task(task_folder).evaluator.write_text("\ufeffimport mine\n")
    assert load_task(task_folder).helpers == (("mine.py", ""),)


def test_a_model_task_without_data_is_refused(model_folder: Path) -> None:
    with pytest.raises(TaskError, match=r"`data\.source` is missing"):
        load_task(edit(model_folder, 'source = "none"', ""))


def test_an_artifact_named_like_what_it_imports_is_refused(model_folder: Path) -> None:
    task = load_task(model_folder)
    edit(model_folder, f'artifact = "{task.artifact}"', 'artifact = "prepare.py"')
    load_task(model_folder)
    task.evaluator.write_text("import prepare\n")
    with pytest.raises(
        TaskError, match=r"`evaluator\.file` must be a file that imports no prepare"
    ):
        load_task(model_folder)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('direction = "maximize"', 'direction = "up"', '`direction` must be one of "minimize"'),
        ('metric = "closeness"', "metric = 3", "`metric` must be a text in quotes; got 3"),
        ('metric = "closeness"', "", "`metric` is missing"),
        ('metric = "closeness"', 'metrik = "closeness"', "is it meant by `metrik`?"),
        ('metric = "closeness"', 'metrik = "x"\nmetric = "y"', "did you mean `metric`?"),
        ("amount = 5.0", "amount = -1", "`cpu.budget.amount` must be a number above 0; got -1"),
        ("amount = 5.0", "amount = true", "`cpu.budget.amount` must be a number above 0"),
        ("room_s = 1.0", "rooms = 1.0", "unknown key `cpu.budget.rooms`"),
        ("room_s = 1.0", "room_s = 5.0", "`cpu.budget.room_s` must be below the budget"),
        ('kind = "seconds"', 'kind = "steps"', "its budget must be in seconds"),
        ('memory = "512 MiB"', 'memory = "lots"', "`cpu.memory` must be bytes or a text such as"),
        ('memory = "512 MiB"', 'memory = "0 GiB"', "`cpu.memory` must be bytes or a text such as"),
        ('memory = "512 MiB"', "cores = 0", "`cpu.cores` must be a whole number above 0"),
        ('artifact = "solve.py"', 'artifact = "../solve.py"', "without a folder"),
        ('file = "score.py"', 'file = "other.py"', "`evaluator.file` must be a file in"),
        ("seeds/line.py", "seeds/none.py", "`seeds` must be a file in"),
        ('name = "polynomial"', "name = ", "is not valid TOML"),
        ('"{seed}"]', '"{seed}"]\n[data]\nsource = "x"', "unknown key `data.source`"),
    ],
)
def test_a_wrong_task_file_is_refused_with_file_key_and_expectation(
    task_folder: Path, old: str, new: str, says: str
) -> None:
    with pytest.raises(TaskError, match=re.escape(says)):
        load_task(edit(task_folder, old, new))


KNOWN = "{python}, {evaluator}, {workdir}, {shard}, {seed} (a literal brace is doubled: {{ or }})"


@pytest.mark.parametrize(
    ("argument", "unknown"),
    [
        ("{pyhton}", "{pyhton}"),
        ("{}", "{}"),
        ('{"a": 1}', '{"a": 1}'),
        ("{seed:.2f}", "{seed:.2f}"),
        ("{shard!z}", "{shard!z}"),
        ("{seed.real}", "{seed.real}"),
        ("{seed", "a single brace"),
        ("}", "a single brace"),
    ],
)
def test_an_argument_that_nothing_fills_in_is_refused_with_those_that_are_known(
    task_folder: Path, argument: str, unknown: str
) -> None:
    edit(task_folder, '"{shard}", ', f"'{argument}', ")
    says = f"`evaluator.command` must be arguments with no placeholders but {KNOWN}, "
    with pytest.raises(TaskError, match=re.escape(f"{says}so without {unknown}; got {argument!r}")):
        load_task(task_folder)


def test_doubled_braces_of_a_command_are_literal_ones(task_folder: Path) -> None:
    edit(task_folder, '"{shard}", ', """'{{"shard": "{shard}"}}', """)
    (braces,) = [one for one in load_task(task_folder).command if "{{" in one]
    assert braces.format(shard="exam") == '{"shard": "exam"}'


def test_a_folder_without_a_task_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=re.escape(f"{tmp_path}/task.toml cannot be read")):
        load_task(tmp_path)


def test_a_seed_that_is_not_text_is_refused(task_folder: Path) -> None:
    (task_folder / "seeds" / "line.py").write_bytes(b"\xff\xfe")
    with pytest.raises(TaskError, match=r"line\.py cannot be read as text"):
        load_task(task_folder)


def test_a_seed_longer_than_the_task_allows_is_refused(task_folder: Path) -> None:
    edit(task_folder, 'memory = "512 MiB"', 'memory = "512 MiB"\nsource = "1 KiB"')
    (task_folder / "seeds" / "line.py").write_text("# " + "x" * 2000)
    with pytest.raises(TaskError, match="the task allows 1024"):
        load_task(task_folder)


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("10s", BudgetKind.SECONDS, 10.0),
        ("2.5 seconds", BudgetKind.SECONDS, 2.5),
        ("200steps", BudgetKind.STEPS, 200.0),
        ("1 step", BudgetKind.STEPS, 1.0),
        ("1e6tokens", BudgetKind.TOKENS, 1e6),
    ],
)
def test_a_budget_is_read_and_written_back(text: str, kind: BudgetKind, amount: float) -> None:
    budget = parse_budget(text, Budget())
    assert (budget.kind, budget.amount) == (kind, amount)
    assert parse_budget(format_budget(budget), Budget()) == budget


@pytest.mark.parametrize("text", ["", "10", "ten s", "-3s", "0s", "1..2s", "1e999s", "5 minutes"])
def test_a_budget_that_names_no_amount_or_kind_is_refused(text: str) -> None:
    with pytest.raises(TaskError, match="must be like 10s"):
        parse_budget(text, Budget())


@pytest.mark.parametrize(
    ("text", "rung", "amount"), [("2s,10s", 2.0, 10.0), ("40steps, 200steps", 40.0, 200.0)]
)
def test_a_budget_may_have_a_rung_below_it(text: str, rung: float, amount: float) -> None:
    budget = parse_budget(text, Budget())
    assert (budget.rung, budget.amount) == (rung, amount)
    assert parse_budget(format_budget(budget), Budget()) == budget
    assert (budget.short.amount, budget.short.kind) == (rung, budget.kind)


@pytest.mark.parametrize(
    "text", ["10s,10s", "20s,10s", "2steps,10s", "0steps,10steps", "2s,", ",10s", "1s,2s,3s"]
)
def test_a_rung_that_is_no_shorter_training_is_refused(text: str) -> None:
    with pytest.raises(TaskError, match="--budget"):
        parse_budget(text, Budget())


def test_a_task_may_have_a_rung_and_a_plain_budget_leaves_it_out(tmp_path: Path) -> None:
    for file in ("task.toml", "prepare.py", "program.md"):
        shutil.copy(REPOSITORY / file, tmp_path)
    shutil.copytree(REPOSITORY / "seeds", tmp_path / "seeds")
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    edit(tmp_path, "amount = 10.0, ", "amount = 10.0, rung = 1.5, ")
    assert load_task(tmp_path).budget.rung == 1.5
    assert load_task(tmp_path, budget="5s").budget.rung is None
    edit(tmp_path, "rung = 1.5", "rung = 0.2")
    says = r"`cpu.budget.rung` must be between 0.3 and 10; got 0\.2"
    with pytest.raises(TaskError, match=says):
        load_task(tmp_path)


def test_a_command_has_no_rung_since_it_has_no_shorter_schedule(task_folder: Path) -> None:
    with pytest.raises(TaskError, match="knows no shorter schedule"):
        load_task(task_folder, budget="2s,5s")
    with pytest.raises(TaskError, match="knows no shorter schedule"):
        load_task(edit(task_folder, "amount = 5.0", "amount = 5.0, rung = 2.0"))


def test_a_longer_budget_lifts_the_wall_clock_limit() -> None:
    assert parse_budget("600s", Budget()).wall_limit_s > 600


def test_a_budget_that_leaves_no_time_to_train_is_refused() -> None:
    with pytest.raises(TaskError, match=r"not above the 0\.3 s"):
        load_task(REPOSITORY, budget="0.2s")
    with pytest.raises(TaskError, match=r"not above the 0\.3 s"):
        load_task(REPOSITORY, budget="0.2s,5s")
    assert load_task(REPOSITORY, budget="0.5s").budget.amount == 0.5


GPU = """
[gpu]
seeds = ["seeds/gpu/large.py"]
cores = 4
memory = "32 GiB"
budget = { kind = "seconds", amount = 300.0, room_s = 3.0 }
"""


@pytest.fixture
def gpu_folder(task_folder: Path) -> Path:
    (task_folder / "seeds" / "gpu").mkdir()
    (task_folder / "seeds" / "gpu" / "large.py").write_text("SIZE = 3\n")
    file = task_folder / "task.toml"
    file.write_text(file.read_text() + GPU)
    return task_folder


def test_on_a_gpu_the_table_of_that_name_is_in_force(gpu_folder: Path) -> None:
    task = load_task(gpu_folder, device="cuda")
    assert (task.device, task.scale, task.gpus, task.cores) == ("cuda", "gpu", 1.0, 4)
    assert task.budget.amount == 300.0
    assert [seed.name for seed in task.seeds] == ["large.py"]
    here = load_task(gpu_folder)
    assert (here.device, here.scale, here.gpus, here.budget.amount) == ("cpu", "cpu", 0.0, 5.0)


def test_a_gpu_is_refused_where_the_task_says_nothing_about_it(task_folder: Path) -> None:
    with pytest.raises(TaskError, match=r"no table \[gpu\], so polynomial does not train on cuda"):
        load_task(task_folder, device="cuda")


def test_a_task_for_gpus_alone_does_not_train_on_processors(task_folder: Path) -> None:
    alone = edit(task_folder, "[cpu]", "[gpu]")
    with pytest.raises(TaskError, match=r"no table \[cpu\], so polynomial does not train on cpu"):
        load_task(alone)
    assert load_task(alone, device="cuda").scale == "gpu"


def test_a_wrong_key_of_the_table_for_a_gpu_is_named_with_it(gpu_folder: Path) -> None:
    with pytest.raises(TaskError, match=re.escape("`gpu.cores` must be a whole number above 0")):
        load_task(edit(gpu_folder, "cores = 4", "cores = 0"), device="cuda")


def test_a_task_trains_on_a_gpu_only_where_there_is_one_and_it_knows_it(
    gpu_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for there in ("cuda", "cpu"):
        monkeypatch.setattr("evolve.taskfile.accelerator", lambda there=there: there)
        assert usual_device(gpu_folder) == there
        assert usual_device(POLYNOMIAL) == "cpu"


def test_data_that_a_person_names_lies_in_the_current_folder_and_a_tasks_own_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_task(REPOSITORY, data="./texts").data == str(tmp_path / "texts")
    assert load_task(REPOSITORY, data="climbmix").data == "climbmix"
    task = Path(shutil.copytree(REPOSITORY, tmp_path / "task", ignore=_all_but_the_task))
    edit(task, 'source = "canterbury"', 'source = "./texts"')
    assert load_task(task).data == str(task / "texts")


def _all_but_the_task(folder: str, names: list[str]) -> list[str]:
    kept = ("task.toml", "prepare.py", "program.md", "seeds", "docs")
    return [name for name in names if folder == str(REPOSITORY) and name not in kept]
