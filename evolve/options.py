"""Options that several commands share, and how a command shows its examples."""

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from evolve.config import SEARCHES
from evolve.taskfile import EFFORTS

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


class Whole(click.IntRange):
    """A whole number in a range, which is told where something else comes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises BadParameter with the range."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            most = "" if self.max is None else f" and at most {self.max}"
            expected = f"a whole number of at least {self.min}{most} is expected"
            self.fail(f"{expected}; got {value!r}", param, ctx)


class Positive(click.FloatRange):
    """A number above zero, as is told where something else comes."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises BadParameter with what is expected."""
        try:
            found = super().convert(value, param, ctx)
        except click.BadParameter:
            found = math.nan
        if not math.isfinite(found):
            self.fail(f"a number above 0 is expected; got {value!r}", param, ctx)
        return found


SECTIONS = {
    "Search": ("run", "try", "export", "doctor"),
    "Read a run": ("status", "report", "ui", "top", "show", "lineage", "query"),
    "Steer a run": ("inject", "record", "pause", "resume", "stop", "kill", "pin"),
}
"""The commands as `evolve --help` lists them; whichever has no place here comes last."""


class Sections(click.Group):
    """A group whose help lists its commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        placed = {name for names in SECTIONS.values() for name in names}
        rest = tuple(name for name in self.commands if name not in placed)
        for title, names in {**SECTIONS, "Other commands": rest}.items():
            told = [(one, self.commands[one].get_short_help_str(80)) for one in names]
            if told:
                with formatter.section(title):
                    formatter.write_dl(told)


def examples(*lines: str) -> str:
    """Return examples as the end of a command's help, each on its own line."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])


def refuse_unread(names: Collection[str], where: str, remedy: str = "leave it out") -> None:
    """Raise UsageError where the command line gives an option that nothing reads.

    Variables of the environment are left alone: they are there for all commands.

    Args:
        names: of the parameters.
        where: in which case nothing reads them, such as `without --export`.
        remedy: what to do.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} has no effect {where}: {remedy}")


json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")

runs_option = click.option(
    "--runs",
    type=FOLDER,
    default=Path("runs"),
    envvar="EVOLVE_RUNS",
    help="Folder of all runs (default: runs; variable EVOLVE_RUNS).",
)

cache_option = click.option(
    "--cache",
    type=FOLDER,
    envvar="EVOLVE_CACHE",
    help="Folder of prepared data (default: ~/.cache/evolve-train; variable EVOLVE_CACHE).",
)

task_option = click.option(
    "--task", type=FOLDER, help="Task folder (default: the current one, else the built-in task)."
)

address_option = click.option(
    "--address", metavar="ADDR", help="Ray cluster to train on (default: this machine)."
)


sandbox_option = click.option(
    "--require-sandbox/--no-require-sandbox",
    default=None,
    help="Refuse to train where a layer of the sandbox is missing; `evolve doctor` lists them. A "
    "run keeps it.",
)


def breeding_options(command: Command) -> Command:
    """Add how proposals come about: who breeds, and which language models are asked."""
    options = (
        click.option(
            "--search",
            type=click.Choice(SEARCHES),
            help="A population (evolve, the default) or a control: steps from the best (greedy) or "
            "from the best founder (best-of), its constants by chance, TPE or CMA-ES.",
        ),
        click.option(
            "--llm",
            is_flag=False,
            flag_value="",
            metavar="[MODEL]",
            help="Ask this language model, or several as A=2,B=1 (default: those that task.toml "
            "recommends, else claude-opus-5-5; claude-code asks Claude Code). Without it none is "
            "asked.",
        ),
        click.option("--no-llm", is_flag=True, help="Ask none, whatever the run was born with."),
        click.option(
            "--cost",
            "cost_usd",
            type=Positive(),
            metavar="USD",
            help="Spend at most this on language models in the whole run (default: 5, or the "
            "task's `cost` where it is less).",
        ),
        click.option("--tokens", type=Whole(1), help="Read and write at most so many with them."),
        click.option(
            "--effort",
            type=click.Choice(EFFORTS),
            help="Of every call (default: drawn for each).",
        ),
        click.option(
            "--models",
            "table",
            type=FILE,
            envvar="EVOLVE_MODELS",
            help="TOML file of models and prices beside the built-in ones (or EVOLVE_MODELS).",
        ),
        click.option(
            "--operator",
            "operators",
            multiple=True,
            metavar="FILE.py:CLASS",
            help="An operator of your own; may be given several times.",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Print the first prompt and its cost; ask nobody."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def run_options(command: Command) -> Command:
    """Add `--run` and `--runs` to a command that reads a run."""
    option = click.option("--run", "name", metavar="NAME", help="Which run (default: the newest).")
    return option(runs_option(command))


def task_options(command: Command) -> Command:
    """Add what names a task, its budget and its data."""
    budget = click.option(
        "--budget",
        metavar="AMOUNT",
        help="Training budget: 10s, 200steps, 1e6tokens; 2s,10s: newcomers 2s, the best 10s.",
    )
    data = click.option("--data", metavar="SRC", help="Data source, in place of the task's.")
    device = click.option(
        "--device",
        type=click.Choice(("cpu", "cuda", "mps")),
        help="Where candidates train (default: a GPU that the task knows, else the processor).",
    )
    return task_option(device(budget(data(cache_option(command)))))
