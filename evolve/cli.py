"""The commands. Each imports what it needs when it runs, so that `evolve --help` is quick."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from evolve import asking, remote
from evolve.options import (
    FILE,
    Positive,
    Sections,
    Whole,
    address_option,
    breeding_options,
    cache_option,
    examples,
    json_option,
    refuse_unread,
    run_options,
    runs_option,
    sandbox_option,
    task_option,
    task_options,
)
from population.errors import EvolveError

EXIT_CODES = """\b
Exit codes: 0 done; 1 a negative result, such as nothing scored;
2 wrong use, or something on this machine must be mended first; 130 interrupted."""

UNEXAMINED = "where programs report their own scores: an exam could confirm nothing"


def main() -> None:
    """Run a command: errors of the user or the machine in one line, never as a traceback."""
    for library in ("OPENBLAS", "MKL", "OMP"):  # the driver's matrices are small, cores are others'
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):  # whose encoding may lack what a candidate prints
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except EvolveError as error:
        click.echo(f"error: {error}", err=True)
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted; nothing that was recorded is lost", err=True)
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


@click.group(
    cls=Sections,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="evolve-train", prog_name="evolve")
def cli() -> None:
    """Evolve training programs under a fixed budget, with scores that candidates cannot fake.

    A newcomer needs five commands: run, status, show, export and doctor.
    """


@cli.command(
    epilog=examples(
        "evolve run --evaluations 40",
        "evolve run --run NAME --hours 8",
        "evolve run --from NAME --evaluations 100",
        "evolve run --llm --cost 2 --evaluations 100",
        "evolve run --llm claude-opus-5-5=1,claude-haiku-5-5=3 --dry-run",
        "evolve run --task tests/tasks/polynomial --budget 200steps --seed 1",
    )
)
@click.option("--run", "name", metavar="NAME", help="Continue this run, or name a new one.")
@click.option(
    "--from",
    "earlier",
    multiple=True,
    metavar="RUN",
    help="Found a new run with the best programs of this one (name or folder), and with what it "
    "learnt; all is scored anew. May be given several times.",
)
@runs_option
@task_options
@click.option("--seed", type=Whole(0), help="Of all random choices (default: 0).")
@click.option("--evaluations", type=Whole(1), help="Stop after so many in the whole run.")
@click.option("--generations", type=Whole(1), help="Stop after so many in the whole run.")
@click.option("--hours", type=Positive(), help="Stop after so long from now.")
@click.option("--slots", type=Whole(1), help="Candidates at once (default: one a core).")
@click.option("--mu", type=Whole(1), help="Survivors (default: 8).")
@click.option("--lambda", "lambda_", type=Whole(1), help="Births a generation (default: 8).")
@click.option("--sync", is_flag=True, default=None, help="Strict generations; slots may wait.")
@breeding_options
@address_option
@sandbox_option
@click.option("--plain", is_flag=True, help="One line per event instead of a live display.")
@click.option(
    "--export/--no-export", default=False, help="Hold the exam and export when the run ends."
)
@click.option(
    "--pairs",
    type=Whole(1),
    default=12,
    help="Most pairs of the exam of --export, which ends when decided; 4 can claim nothing "
    "(default: 12).",
)
def run(dry_run: bool, export: bool, pairs: int, **given: Any) -> int:
    """Start a search, or continue one; Ctrl-C ends it cleanly.

    Without a stop condition it goes on until it is interrupted. Data is prepared when it is
    missing. What is recorded survives any stop: `evolve run --run NAME` goes on from there.
    """
    from evolve.config import configure

    if not export:
        refuse_unread(["pairs"], "without --export", "add --export, or leave it out")
    given["pairs"] = pairs if export else None
    config = configure(given)  # a wrong option is told before Ray and torch are loaded
    if not config.breeding.models:
        spending = ["cost_usd", "tokens", "effort", "table"]
        refuse_unread(spending, "without a language model", "add --llm, or leave it out")
    if export and config.load_task().self_reported:
        refuse_unread(["pairs"], UNEXAMINED)
    if dry_run:
        from evolve.estimate import dry_run as rehearse

        click.echo(rehearse(config))
        return 0
    from evolve.running import run as start

    return start(config, unnamed=given["name"] is None)


@cli.command(name="try", epilog=examples("evolve try seeds/transformer.py --repeat 3"))
@click.argument("file", type=FILE)
@task_options
@click.option("--seed", type=Whole(0), default=0, help="Seed of the training.")
@click.option(
    "--shard",
    help="Validation shard (default: the selection shard). What you read here of confirmation or "
    "exam no run counts: choosing by it takes those shards their worth.",
)
@click.option("--repeat", type=Whole(1), default=1, help="Train so often, seeds rising.")
@sandbox_option
@json_option
def try_(file: Path, repeat: int, as_json: bool, require_sandbox: bool, **given: Any) -> int:
    """Train and score one FILE as the search would."""
    from evaluate.device import require_device
    from evaluate.sandbox import require_all
    from evolve.taskdata import cache_folder, candidates_read, prepared
    from evolve.taskfile import find_task, load_task, usual_device
    from evolve.trying import Trial, read_genome, try_program

    if "," in (given["budget"] or ""):
        raise click.UsageError(
            f"--budget {given['budget']}: a program alone trains once, so a short training "
            "has nobody to let through; name one amount"
        )
    folder = given["task"] or find_task()
    device = given["device"] or usual_device(folder)
    task = load_task(folder, given["budget"], given["data"], device)
    genome = read_genome(file, task)
    if given["task"] is None and folder != Path.cwd():
        click.echo(
            f"no task.toml here: trying it for task {task.name} in {folder}; --task names another",
            err=True,
        )
    require_device(device)
    required = require_all(device, candidates_read(task)) if require_sandbox else ()
    data = prepared(task, cache_folder(given["cache"]))
    trial = Trial(task, genome, data, given["shard"], required)
    return try_program(trial, range(given["seed"], given["seed"] + repeat), as_json)


@cli.command(
    epilog=examples(
        "evolve export",
        "evolve export --format tsv -o results.tsv",
        "evolve export --format git -o ~/my-repository",
    )
)
@run_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["file", "tsv", "git"]),
    default="file",
    help="The program with its evidence, results.tsv, or a branch with a commit per ancestor.",
)
@click.option(
    "--pairs",
    type=Whole(0),
    default=12,
    help="Most pairs of the exam, earlier ones of the two included; 0 holds none (default: 12).",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Folder (for tsv: a file). Default: best/ or git/ in the run's folder, for tsv stdout.",
)
@cache_option
@address_option
@sandbox_option
def export(
    name: str | None, runs: Path, form: str, pairs: int, output: Path | None, **said: Any
) -> int:
    """The best program of a run that has ended, with the evidence for it.

    With --pairs 0 also of one that still searches.

    The exam trains it and the best founder in pairs, on fresh seeds, and scores both on a shard
    that nothing was selected by. Only that difference is claimed. The exam ends as soon as it is
    decided; asked for again with more pairs, it goes on where it ended. Where programs report their
    own scores none is held and nothing is claimed.
    """
    from evolve.leaving import export_file, export_git, export_tsv, scored_itself
    from evolve.reading import find_run

    trains = ["cache", "address", "require_sandbox"]
    if form != "file":
        refuse_unread(["pairs", *trains], f"on --format {form}, which holds no exam")
    elif not pairs:
        refuse_unread(trains, "without an exam (--pairs 0)")
    folder = find_run(runs, name)
    if form == "file" and pairs and scored_itself(folder):
        refuse_unread(["pairs", *trains], UNEXAMINED)
        pairs = 0
    if form == "tsv":
        return export_tsv(folder, output)
    if form == "git":
        return export_git(folder, output or folder / "git")
    return export_file(folder, output or folder / "best", pairs, said)


@cli.command(epilog=examples("evolve doctor"))
@task_option
@cache_option
@runs_option
@address_option
@json_option
def doctor(
    task: Path | None, cache: Path | None, runs: Path, address: str | None, as_json: bool
) -> int:
    """What works on this machine, what does not, and what to do about it."""
    from dataclasses import asdict

    from evolve.console import at_work
    from evolve.doctor import BROKEN, examine_machine, report
    from evolve.taskdata import cache_folder
    from evolve.taskfile import find_task
    from evolve.writing import print_answer

    with at_work("looking at devices, data, sandbox and Ray"):
        findings = examine_machine(task or find_task(), cache_folder(cache), runs, address)
    print_answer([asdict(found) for found in findings] if as_json else report(findings))
    return 1 if any(found.state == BROKEN for found in findings) else 0


for command in (*asking.COMMANDS, *remote.COMMANDS):
    cli.add_command(command)


if __name__ == "__main__":
    main()
