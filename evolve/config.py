"""What a run is told: one frozen configuration, validated once, kept in the run's lineage."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

from evolve.taskfile import (
    find_task,
    format_budget,
    load_llm,
    load_task,
    parse_budget,
    usual_device,
)
from population.errors import RunError
from population.task import Budget, Task

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FIXED = ("budget", "device", "seed", "mu", "lambda_", "sync", "slots")
SEARCHES = ("evolve", "greedy", "best-of", "random", "tpe", "cmaes")
_LATER = ("device", "slots", "require_sandbox", "cache")  # not kept by the first versions
_AT_BIRTH = ("task", "data", "cache", *_FIXED, "require_sandbox")
"""Task and data may move: their hashes are checked. What the sandbox must have may change."""
_PATHS = ("task", "cache")


@dataclass(frozen=True, slots=True)
class Breeding:
    """How proposals come about.

    Attributes:
        search: one of `SEARCHES`: all but the first are controls.
        models: language models to ask, `NAME` or `NAME=WEIGHT`; empty: none is asked.
        effort: of every call, None: drawn for each.
        cost_usd, tokens: what may be spent on them in the whole run; None: no limit of tokens.
        table: TOML file of models and prices beside the built-in ones.
        operators: further operators, `FILE.py:CLASS`.
        earlier: folders of the runs that this one was born from; never another later.
    """

    search: str = "evolve"
    models: tuple[str, ...] = ()
    effort: str | None = None
    cost_usd: float = 5.0
    tokens: int | None = None
    table: str | None = None
    operators: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything `evolve run` was told. The lineage keeps what holds for its life.

    Attributes:
        name: the run's folder is `runs/name`.
        task: task folder. data, budget: in place of the task's; `configure` fills them in.
        device: where candidates train.
        breeding: how proposals come about; kept, but a later call may say otherwise.
        mu: survivors. lambda_: births between two survivor selections.
        sync: a generation begins only when the one before it has ended.
        cache: folder of prepared data; a run goes on with it unless another one is named.
        slots: candidates at once on this machine, None: as many as it has room for; kept, since
            scores of another number do not compare.
        address: of a Ray cluster, None: this machine.
        evaluations, generations, hours: stop conditions, None: none.
        require_sandbox: train only where every layer of the sandbox holds; kept, and a later call
            may say otherwise.
        plain: no live display. pairs: of the exam at the end, at most; None: no exam is held.
    """

    name: str
    runs: Path
    task: Path
    data: str | None = None
    budget: str | None = None
    device: str = "cpu"
    seed: int = 0
    breeding: Breeding = field(default_factory=Breeding)
    mu: int = 8
    lambda_: int = 8
    sync: bool = False
    cache: Path | None = None
    slots: int | None = None
    address: str | None = None
    evaluations: int | None = None
    generations: int | None = None
    hours: float | None = None
    require_sandbox: bool = False
    plain: bool = False
    pairs: int | None = None

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return self.runs / self.name

    def load_task(self) -> Task:
        """Return the task with this run's budget and data in place of the file's."""
        return load_task(self.task, self.budget, self.data, self.device)

    def to_json(self) -> str:
        """Return what holds for the run's life, as the lineage stores it."""
        stored = {key: getattr(self, key) for key in _AT_BIRTH}
        stored |= {key: str(stored[key]) for key in _PATHS if stored[key] is not None}
        return json.dumps(stored | {"breeding": asdict(self.breeding)})


def configure(given: Mapping[str, Any]) -> RunConfig:
    """Return the configuration for a new or an existing run.

    Args:
        given: fields of RunConfig and Breeding by name, numbers in the range of their options, None
            where the user said nothing; `runs` is needed.

    Raises:
        RunError: the name is no folder name, an existing run was born with other values than the
            given ones, or a run to be born from does not exist.
        TaskError: no task folder is named and none is found.
    """
    said = {key: value for key, value in given.items() if value is not None and value != ()}
    runs = Path(said.pop("runs"))
    name = said.pop("name", None)
    if name is not None and not _NAME.fullmatch(name):
        raise RunError(f"--run must be a plain name such as `trial-1`; got {name!r}")
    said |= _anchored(said)
    if "budget" in said:
        said["budget"] = format_budget(parse_budget(said["budget"], Budget()))
    stored = _stored(runs / name) if name is not None else {}
    if "earlier" in said:
        if stored:
            raise RunError(
                f"--from founds a new run and {name} exists: leave --from out to continue it, or "
                "start another run with another --run"
            )
        said["earlier"] = tuple(dict.fromkeys(_earlier(runs, one) for one in said["earlier"]))
    for key in _FIXED:
        if key in said and said[key] != stored.get(key, said[key]):
            raise RunError(
                f"run {name} was born with {key.rstrip('_')} = {stored[key]}; got {said[key]}; "
                "leave the option out to continue it, or start another run with another --run"
            )
    llm, no_llm = said.pop("llm", None), bool(said.pop("no_llm", False))
    own = {one.name: said.pop(one.name) for one in fields(Breeding) if one.name in said}
    said = stored | said
    folder = said.pop("task", None) or find_task()
    born, advice = said.pop("breeding", {}), load_llm(folder)
    own |= _asked(llm, no_llm, born.get("models") or advice.get("models") or ())
    breeding = _breeding(name, born, advice, own)
    device = said.pop("device", None) or usual_device(folder)
    task = load_task(folder, said.pop("budget", None), said.pop("data", None), device)
    return RunConfig(
        name=name or _next_name(runs, task.name),
        runs=runs,
        task=folder,
        data=task.data,
        budget=format_budget(task.budget) if task.trains else None,
        device=device,
        breeding=breeding,
        **said,
    )


def _anchored(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that name files, absolute: a later call may come from another folder."""
    found: dict[str, Any] = {}
    if "task" in said:
        found["task"] = Path(said["task"]).resolve()
    if "cache" in said:
        found["cache"] = Path(said["cache"]).expanduser().resolve()
    if "table" in said:
        found["table"] = str(Path(said["table"]).resolve())
    if "operators" in said:
        found["operators"] = tuple(str(Path(mention).resolve()) for mention in said["operators"])
    return found


def _earlier(runs: Path, mention: str) -> str:
    """Return the folder of a run to be born from, named or as a path."""
    from population.publishing import PUBLISHED

    for folder in (runs / mention, Path(mention)):
        if (folder / PUBLISHED).is_file():
            return str(folder.resolve())
    known = sorted(file.parent.name for file in runs.glob(f"*/{PUBLISHED}"))
    raise RunError(
        f"--from {mention}: no run of that name in {runs.resolve()} (known: "
        f"{', '.join(known) or 'none'}) and no run's folder; name one of them, or give its path"
    )


def _asked(llm: str | None, no_llm: bool, usual: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the models that `--llm` names; where it names none, the usual ones or the default."""
    if no_llm:
        if llm is not None:
            raise RunError("--llm and --no-llm exclude each other; leave one out")
        return {"models": ()}
    if llm is None:
        return {}
    from mutate.models import DEFAULT

    named = tuple(part.strip() for part in llm.split(",")) if llm else tuple(usual)
    return {"models": named or (DEFAULT,)}


def _breeding(
    name: str | None, stored: Mapping[str, Any], advice: Mapping[str, Any], own: Mapping[str, Any]
) -> Breeding:
    """Return how proposals come about: as said now, else as the run was born.

    What the task advises on language models counts once its user asks for one, never before: it
    lowers the default cap and never raises it.
    """
    born = stored.get("search")
    if born and own.get("search", born) != born:
        raise RunError(
            f"run {name} was born with search = {born}; got {own['search']}; leave the option out "
            "to continue it, or start another run with another --run"
        )
    said: dict[str, Any] = dict(stored)
    if own.get("models") and not stored.get("models"):
        cap = stored.get("cost_usd", Breeding().cost_usd)
        said |= advice
        said["cost_usd"] = min(advice.get("cost_usd", cap), cap)
    said |= own
    said = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
    return Breeding(**said)


def _stored(folder: Path) -> dict[str, Any]:
    """Return what the run in `folder` was born with; nothing where there is no run."""
    from population.identity import STATE, stored_identity

    if not (folder / STATE).exists():
        return {}
    text = stored_identity(folder).configuration
    try:
        stored = json.loads(text)
        known = {key: stored[key] for key in _AT_BIRTH if key not in _LATER}
        known["device"] = "cpu"  # before there was a choice
        later = {key: stored[key] for key in _LATER if stored.get(key) is not None}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder} was not made by `evolve run`: its configuration is {text!r}; "
            "name another run"
        ) from error
    kept = known | later
    kept |= {key: Path(kept[key]) for key in _PATHS if key in kept}
    return kept | {"breeding": stored.get("breeding", {})}


@contextmanager
def reserved(config: RunConfig, task: Task) -> Iterator[RunConfig]:
    """Make the folder of a run that nobody has named; where another call has it, of the next name.

    Two calls that begin together have both found the same name free. What does not become a run
    leaves no folder behind.

    Args:
        config: with the name that was free.
        task: after which runs are named.

    Raises:
        RunError: the folder cannot be made.
    """
    while True:
        try:
            config.folder.mkdir(parents=True)
            break
        except FileExistsError:
            config = replace(config, name=_next_name(config.runs, task.name))
        except OSError as error:
            raise RunError(
                f"{config.folder} cannot be made ({error.strerror}); name other --runs"
            ) from error
    try:
        yield config
    finally:
        with suppress(OSError):
            config.folder.rmdir()  # which takes empty ones alone


def _next_name(runs: Path, task: str) -> str:
    plain = re.sub("[^A-Za-z0-9._-]+", "-", task).strip("-._") or "run"
    stem = f"{plain}-{date.today():%Y%m%d}"
    taken = {entry.name for entry in runs.iterdir()} if runs.is_dir() else set()
    count = 1
    while f"{stem}-{count}" in taken:
        count += 1
    return f"{stem}-{count}"
