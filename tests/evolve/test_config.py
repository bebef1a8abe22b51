import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest

from evolve.breeding import breeders
from evolve.composition import search_config
from evolve.config import Breeding, RunConfig, configure, reserved
from evolve.estimate import breeding_lines
from evolve.taskfile import REPOSITORY
from mutate.models import DEFAULT
from mutate.spending import Spent
from population.errors import RunError, TaskError
from population.lineage import DuckLineage, RunIdentity
from population.task import Direction
from tests.evolve.conftest import POLYNOMIAL


def born(config: RunConfig) -> None:
    """Create the run that a configuration describes."""
    identity = RunIdentity(
        "polynomial", "solve.py", "closeness", Direction.MAXIMIZE, "e", "", "p", config.seed, 0.0,
        config.to_json(),
    )  # fmt: skip
    DuckLineage.open(config.folder, identity).close()


def test_a_run_configuration_has_at_most_twenty_fields() -> None:
    assert len(fields(RunConfig)) <= 20


def test_a_run_without_a_name_is_called_after_task_date_and_count(tmp_path: Path) -> None:
    first = configure({"runs": tmp_path, "task": POLYNOMIAL})
    born(first)
    second = configure({"runs": tmp_path, "task": POLYNOMIAL})
    assert first.name.startswith("polynomial-")
    assert first.name.endswith("-1")
    assert second.name == first.name.removesuffix("1") + "2"


def test_a_run_is_continued_with_what_it_was_born_with(tmp_path: Path) -> None:
    given = {"runs": tmp_path, "name": "a", "task": POLYNOMIAL, "seed": 7, "budget": "3s", "mu": 4}
    born(configure(given))
    again = configure({"runs": tmp_path, "name": "a", "evaluations": 5})
    assert (again.seed, again.budget, again.mu, again.task) == (7, "3s", 4, POLYNOMIAL)
    assert again.evaluations == 5


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 8), ("budget", "4s"), ("mu", 5), ("lambda_", 2), ("sync", True), ("device", "cuda")],
)
def test_a_run_is_not_continued_under_other_rules(tmp_path: Path, key: str, value: object) -> None:
    born(configure({"runs": tmp_path, "name": "a", "task": POLYNOMIAL, "seed": 7, "budget": "3s"}))
    with pytest.raises(RunError, match="was born with"):
        configure({"runs": tmp_path, "name": "a", key: value})


def test_a_run_goes_on_with_the_data_that_it_began_with_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    again = {"runs": tmp_path, "name": "a"}
    born(configure(again | {"task": POLYNOMIAL, "cache": Path("mine")}))
    monkeypatch.chdir(POLYNOMIAL)
    assert configure(again).cache == tmp_path / "mine"
    assert configure(again | {"cache": tmp_path / "other"}).cache == tmp_path / "other"


def test_a_run_goes_on_with_as_many_candidates_at_once_as_it_was_born_with(tmp_path: Path) -> None:
    born(configure({"runs": tmp_path, "name": "a", "task": POLYNOMIAL, "slots": 3}))
    assert configure({"runs": tmp_path, "name": "a"}).slots == 3
    with pytest.raises(RunError, match="born with slots = 3; got 1"):
        configure({"runs": tmp_path, "name": "a", "slots": 1})


def test_a_run_that_required_the_sandbox_goes_on_requiring_it_until_it_is_told_otherwise(
    tmp_path: Path,
) -> None:
    again = {"runs": tmp_path, "name": "a"}
    born(configure(again | {"task": POLYNOMIAL, "require_sandbox": True}))
    assert configure(again).require_sandbox
    assert not configure(again | {"require_sandbox": False}).require_sandbox


def test_a_run_from_before_there_was_a_choice_of_device_goes_on_on_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure({"runs": tmp_path, "name": "a", "task": POLYNOMIAL})
    without = {
        k: v
        for k, v in json.loads(config.to_json()).items()
        if k not in ("device", "slots", "require_sandbox")
    }
    monkeypatch.setattr(RunConfig, "to_json", lambda self: json.dumps(without))
    born(config)
    again = configure({"runs": tmp_path, "name": "a"})
    assert (again.device, again.slots, again.require_sandbox) == ("cpu", None, False)


def test_a_run_keeps_its_rung_and_is_not_continued_without_it(tmp_path: Path) -> None:
    born(configure({"runs": tmp_path, "name": "a", "task": REPOSITORY, "budget": "1s,3s"}))
    again = configure({"runs": tmp_path, "name": "a", "budget": "1.0s, 3s"})
    assert again.budget == "1s,3s"
    assert search_config(again, again.load_task()).rung == pytest.approx(1 / 3)
    with pytest.raises(RunError, match="born with budget = 1s,3s; got 3s"):
        configure({"runs": tmp_path, "name": "a", "budget": "3s"})


def test_a_budget_written_in_another_way_is_the_same(tmp_path: Path) -> None:
    born(configure({"runs": tmp_path, "name": "a", "task": POLYNOMIAL, "budget": "3s"}))
    again = configure({"runs": tmp_path, "name": "a", "budget": "3.0 seconds"})
    assert again.budget == "3s"


@pytest.mark.parametrize("task", ["多項式", "_private", "-.-", "a b"])
def test_a_run_without_a_name_is_continued_under_the_one_it_gets(tmp_path: Path, task: str) -> None:
    folder = tmp_path / "task"
    shutil.copytree(POLYNOMIAL, folder)
    file = folder / "task.toml"
    file.write_text(file.read_text("utf-8").replace('"polynomial"', f'"{task}"'), "utf-8")
    first = configure({"runs": tmp_path, "task": folder})
    born(first)
    assert configure({"runs": tmp_path, "name": first.name}).name == first.name


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".hidden", "a b"])
def test_a_run_name_stays_inside_the_runs_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="plain name"):
        configure({"runs": tmp_path, "name": name, "task": POLYNOMIAL})


def test_the_current_folder_is_the_task_where_it_holds_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(POLYNOMIAL)
    assert configure({"runs": tmp_path}).task == POLYNOMIAL
    monkeypatch.chdir(tmp_path)
    assert configure({"runs": tmp_path}).load_task().name == "train-gpt"


def test_a_missing_task_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"task\.toml cannot be read"):
        configure({"runs": tmp_path, "task": tmp_path / "nowhere"})


def asked(tmp_path: Path, **given: object) -> Breeding:
    return configure({"runs": tmp_path, "task": POLYNOMIAL, **given}).breeding


def test_no_language_model_is_asked_unless_someone_says_so(tmp_path: Path) -> None:
    assert asked(tmp_path).models == ()
    assert asked(tmp_path, llm="").models == (DEFAULT,)
    assert asked(tmp_path, llm="a=2, b").models == ("a=2", "b")


def test_spending_has_a_cap_that_nobody_has_to_set(tmp_path: Path) -> None:
    assert asked(tmp_path, llm="").cost_usd == 5.0
    assert asked(tmp_path, llm="", cost_usd=0.5, tokens=1000).cost_usd == 0.5


def test_a_run_goes_on_with_the_models_and_the_cap_that_it_was_born_with(tmp_path: Path) -> None:
    given = {"runs": tmp_path, "name": "a", "task": POLYNOMIAL, "llm": "a", "cost_usd": 2.0}
    born(configure(given))
    again = {"runs": tmp_path, "name": "a"}
    assert configure(again).breeding.models == ("a",)
    assert configure(again).breeding.cost_usd == 2.0
    assert configure(again | {"llm": "b", "cost_usd": 3.0}).breeding.cost_usd == 3.0
    assert configure(again | {"no_llm": True}).breeding.models == ()


def test_an_operator_is_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"runs": tmp_path, "name": "a", "task": POLYNOMIAL, "operators": ("mine.py:Mine",)}
    born(configure(given))
    monkeypatch.chdir("/")
    again = configure({"runs": tmp_path, "name": "a"})
    assert again.breeding.operators == (f"{tmp_path / 'mine.py'}:Mine",)


def test_who_breeds_is_fixed_for_the_life_of_a_run(tmp_path: Path) -> None:
    given = {"runs": tmp_path, "name": "a", "task": POLYNOMIAL, "search": "greedy"}
    born(configure(given))
    with pytest.raises(RunError, match="was born with search = greedy"):
        configure({"runs": tmp_path, "name": "a", "search": "evolve"})


def published(runs: Path, name: str) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "lineage.duckdb").touch()
    return folder


def test_a_run_is_born_from_others_by_name_or_folder_and_remembers_them(tmp_path: Path) -> None:
    night, day = published(tmp_path / "runs", "night"), published(tmp_path / "elsewhere", "day")
    given = {"runs": tmp_path / "runs", "name": "a", "task": POLYNOMIAL}
    config = configure(given | {"earlier": ("night", str(day), str(night))})
    assert config.breeding.earlier == (str(night), str(day))
    born(config)
    shutil.rmtree(night)
    assert configure(given).breeding.earlier == (str(night), str(day))


def test_a_run_that_exists_is_not_born_again(tmp_path: Path) -> None:
    published(tmp_path, "night")
    given = {"runs": tmp_path, "name": "a", "task": POLYNOMIAL, "earlier": ("night",)}
    born(configure(given))
    with pytest.raises(RunError, match="a exists: leave --from out to continue it"):
        configure(given)


def test_a_run_is_not_born_from_one_that_does_not_exist(tmp_path: Path) -> None:
    published(tmp_path, "night")
    with pytest.raises(RunError, match=r"--from nigth: no run of that name .*known: night"):
        configure({"runs": tmp_path, "task": POLYNOMIAL, "earlier": ("nigth",)})


def test_asking_and_not_asking_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exclude each other"):
        asked(tmp_path, llm="", no_llm=True)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('models = ["a", "b=3"]\ncost = 0.5\ntokens = 9\neffort = "low"', None),
        ("models = []", "a list of texts"),
        ("cost = 0", "a number above 0"),
        ('effort = "huge"', "one of"),
        ('modles = ["a"]', "did you mean `models`"),
    ],
)
def test_a_task_may_recommend_models_and_a_cap_to_whoever_asks(
    tmp_path: Path, table: str, says: str | None
) -> None:
    folder = tmp_path / "task"
    shutil.copytree(POLYNOMIAL, folder)
    file = folder / "task.toml"
    file.write_text(f"{file.read_text()}\n[llm]\n{table}\n")
    if says is None:
        assert asked(tmp_path, task=folder) == Breeding()
        advised = Breeding("evolve", ("a", "b=3"), "low", 0.5, 9)
        assert asked(tmp_path, task=folder, llm="") == advised
        assert asked(tmp_path, task=folder, llm="c") == replace(advised, models=("c",))
        assert asked(tmp_path, task=folder, llm="", cost_usd=9.0).cost_usd == 9.0
        assert asked(tmp_path, task=folder, no_llm=True).models == ()
    else:
        with pytest.raises(TaskError, match=says):
            asked(tmp_path, task=folder)


def advised(tmp_path: Path, table: str) -> Path:
    """Return a task that recommends models."""
    folder = Path(shutil.copytree(POLYNOMIAL, tmp_path / "task"))
    with (folder / "task.toml").open("a") as file:
        file.write(f"\n[llm]\n{table}\n")
    return folder


def test_a_task_cannot_raise_the_cap_of_what_may_be_spent(tmp_path: Path) -> None:
    folder = advised(tmp_path, 'models = ["a"]\ncost = 500.0')
    assert asked(tmp_path, task=folder, llm="").cost_usd == 5.0
    assert asked(tmp_path, task=folder, llm="", cost_usd=20.0).cost_usd == 20.0


def test_a_run_that_asks_models_goes_on_asking_them_whatever_the_task_says_by_now(
    tmp_path: Path,
) -> None:
    folder = advised(tmp_path, 'models = ["a"]\ncost = 2.0')
    again = {"runs": tmp_path, "name": "a"}
    born(configure(again | {"task": folder, "llm": "b"}))
    assert configure(again).breeding.models == ("b",)
    assert configure(again | {"llm": ""}).breeding.models == ("b",)
    assert configure(again).breeding.cost_usd == 2.0


def test_a_run_that_was_born_without_a_model_may_take_up_the_recommended_one(
    tmp_path: Path,
) -> None:
    folder = advised(tmp_path, 'models = ["a"]\ncost = 2.0')
    again = {"runs": tmp_path, "name": "a"}
    born(configure(again | {"task": folder}))
    assert configure(again).breeding.models == ()
    breeding = configure(again | {"llm": ""}).breeding
    assert (breeding.models, breeding.cost_usd) == (("a",), 2.0)


@pytest.mark.parametrize(("search", "lines"), [("evolve", 1), ("greedy", 1), ("tpe", 0)])
def test_whoever_asks_no_model_is_told_once_that_the_task_recommends_one(
    tmp_path: Path, search: str, lines: int
) -> None:
    folder = advised(tmp_path, 'models = ["a", "b=3"]')
    config = configure({"runs": tmp_path, "task": folder, "search": search})
    task = config.load_task()
    told = breeding_lines(config, task, breeders(config.breeding, task, Spent()), [], 1)
    assert told.count("the task recommends a, b=3: add --llm") == lines


def test_two_runs_without_a_name_that_start_together_get_two_folders(tmp_path: Path) -> None:
    given = {"runs": tmp_path / "runs", "task": POLYNOMIAL}
    first, second = configure(given), configure(given)
    task = first.load_task()
    assert first.name == second.name
    assert not first.runs.exists()  # a dry run leaves nothing behind
    with reserved(first, task) as one, reserved(second, task) as other:
        assert one.name == first.name
        assert other.name == first.name.removesuffix("1") + "2"
        born(one)
    assert [folder.name for folder in first.runs.iterdir()] == [one.name]


def test_a_runs_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    config = configure({"runs": tmp_path / "elsewhere", "task": POLYNOMIAL})
    with (
        pytest.raises(RunError, match="cannot be made"),
        reserved(replace(config, runs=tmp_path / "runs"), config.load_task()),
    ):
        pass
