"""The commands. Each imports what it needs when it runs, so that `evolve --help` is quick."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from evolve import pages, remote
from evolve.options import (
    FILE,
    Sections,
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


def main() -> None:
    """Run a command: errors of the user or the machine in one line, never as a traceback."""
    for library in ("OPENBLAS", "MKL", "OMP"):  # the driver's matrices are small, cores are others'
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
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
@click.option("--seed", type=click.IntRange(0), help="Of all random choices (default: 0).")
@click.option("--evaluations", type=click.IntRange(1), help="Stop after so many in the whole run.")
@click.option("--generations", type=click.IntRange(1), help="Stop after so many in the whole run.")
@click.option(
    "--hours", type=click.FloatRange(0, min_open=True), help="Stop after so long from now."
)
@click.option("--slots", type=click.IntRange(1), help="Candidates at once (default: one a core).")
@click.option("--mu", type=click.IntRange(1), help="Survivors (default: 8).")
@click.option(
    "--lambda", "lambda_", type=click.IntRange(1), help="Births a generation (default: 8)."
)
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
    type=click.IntRange(1),
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
    if dry_run:
        from evolve.estimate import dry_run as rehearse

        click.echo(rehearse(config))
        return 0
    from evolve.running import run as start

    return start(config, unnamed=given["name"] is None)


@cli.command(name="try", epilog=examples("evolve try seeds/transformer.py --repeat 3"))
@click.argument("file", type=FILE)
@task_options
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the training.")
@click.option(
    "--shard",
    help="Validation shard (default: the selection shard). What you read here of confirmation or "
    "exam no run counts: choosing by it takes those shards their worth.",
)
@click.option("--repeat", type=click.IntRange(1), default=1, help="Train so often, seeds rising.")
@sandbox_option
@json_option
def try_(file: Path, repeat: int, as_json: bool, require_sandbox: bool, **given: Any) -> int:
    """Train and score one FILE as the search would."""
    from evaluate.device import require_device
    from evaluate.sandbox import require_all
    from evolve.composition import cache_folder, prepared
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
    require_device(device)
    required = require_all(device) if require_sandbox else ()
    data = prepared(task, cache_folder(given["cache"]))
    trial = Trial(task, genome, data, given["shard"], required)
    return try_program(trial, range(given["seed"], given["seed"] + repeat), as_json)


@cli.command(
    epilog=examples(
        'evolve inject mine.py --parent 17 --hypothesis "a longer warm-up steadies the start"',
        'evolve inject mine.py --hypothesis "two small models, averaged" --wait --json',
    )
)
@click.argument("file", type=FILE)
@click.option("--hypothesis", required=True, help="Why it should be better; kept with it.")
@run_options
@click.option(
    "--parent", metavar="ID", type=click.IntRange(1), help="Whose text was changed (default: none)."
)
@click.option("--category", default="program", help="What it touches, in a word, like optimizer.")
@click.option("--wait", is_flag=True, help="Until it is scored or has failed.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=3600.0,
    help="Seconds that --wait waits at most (default: 3600).",
)
@json_option
def inject(file: Path, name: str | None, runs: Path, as_json: bool, **given: Any) -> int:
    """Put the program in FILE into a run, live or not.

    It is checked, trained and scored like every other one, before anything newly bred, and counts
    as an evaluation. What a run does not take while it goes on, the next `evolve run` takes first.
    Exit code 0: accepted, with --wait: scored; 1: refused or failed, with --wait: not scored yet.
    """
    from dataclasses import asdict

    from evolve.injecting import describe, inject_program, read_wish
    from evolve.reading import find_run

    if not given["wait"]:
        refuse_unread(["timeout"], "without --wait", "add --wait, or leave it out")
    wait_s = given["timeout"] if given["wait"] else None
    wish = read_wish(file, given["hypothesis"], given["category"], given["parent"])
    answer = inject_program(find_run(runs, name), wish, wait_s)
    _print(asdict(answer) if as_json else describe(answer))
    good = ("scored",) if given["wait"] else ("waiting", "taken", "scored")
    return 0 if answer.state in good else 1


@cli.command(epilog=examples("evolve status"))
@run_options
@json_option
def status(name: str | None, runs: Path, as_json: bool) -> None:
    """How far a run is: counts, best so far with its interval, operators, failures."""
    from evolve import printing
    from evolve.reading import Reading, find_run

    with Reading(find_run(runs, name)) as reading:
        found = reading.status()
    _print(found if as_json else printing.status(found))


@cli.command(epilog=examples("evolve top -n 5"))
@run_options
@click.option("--limit", "-n", type=click.IntRange(1), default=20, help="So many rows.")
@json_option
def top(name: str | None, runs: Path, limit: int, as_json: bool) -> None:
    """The leaderboard: shrunken mean, 95% interval, evaluations, origin, age."""
    from evolve import printing
    from evolve.reading import Reading, find_run

    with Reading(find_run(runs, name)) as reading:
        rows, unprotected = reading.top(limit), reading.unprotected()
    _print(rows.objects() if as_json else printing.leaderboard(rows, unprotected))


@cli.command(epilog=examples("evolve show 17", "evolve show --source > best.py"))
@click.argument("individual", metavar="[ID]", type=click.IntRange(1), required=False)
@run_options
@click.option("--source", is_flag=True, help="Its source text and nothing else.")
@click.option("--prompts", is_flag=True, help="What language models were asked and answered.")
@json_option
def show(individual: int | None, name: str | None, runs: Path, **how: bool) -> None:
    """One individual (default: the best): hypothesis, diff, scores, curve, log tail."""
    from evolve import printing
    from evolve.reading import Reading, find_run
    from evolve.text import clean

    if how["source"] and how["prompts"]:
        raise click.UsageError("--source prints the source and nothing else: leave out --prompts")
    with Reading(find_run(runs, name)) as reading:
        found = reading.individual(individual or reading.leader())
    if how["source"] and how["as_json"]:
        _print({"id": found["id"], "source": found["source"]})
        return
    if how["source"]:
        text = str(found["source"])
        click.echo(clean(text) if sys.stdout.isatty() else text, nl=False)
        return
    told = printing.conversation if how["prompts"] else printing.individual
    _print(found if how["as_json"] else told(found))


@cli.command(epilog=examples("evolve lineage 17"))
@click.argument("individual", metavar="[ID]", type=click.IntRange(1), required=False)
@run_options
@json_option
def lineage(individual: int | None, name: str | None, runs: Path, as_json: bool) -> None:
    """The line of descent of one individual (default: the best), each step with its gain."""
    from evolve import printing
    from evolve.reading import Reading, find_run

    with Reading(find_run(runs, name)) as reading:
        steps = reading.descent(individual or reading.leader())
    _print(steps if as_json else printing.descent(steps))


@cli.command(
    epilog=examples(
        'evolve query "FROM leaderboard LIMIT 5"',
        'evolve query "SELECT ancestor FROM ancestry WHERE individual = 17"',
        'evolve query "FROM evaluations" --format parquet -o evaluations.parquet',
    )
)
@click.argument("sql")
@run_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    help="How the answer is written.",
)
@click.option("--output", "-o", type=FILE, help="To a file.")
def query(sql: str, name: str | None, runs: Path, form: str, output: Path | None) -> None:
    """Ask a run's lineage in SQL, while it runs or after; docs/lineage.md lists the views."""
    from evolve.answers import write_answer
    from evolve.reading import Reading, find_run

    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet needs a file: add --output FILE")
    with Reading(find_run(runs, name)) as reading:
        write_answer(reading, sql, form, output)


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
    type=click.IntRange(0),
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

    The exam trains it and the best founder in pairs, on fresh seeds, and scores both on a shard
    that nothing was selected by. Only that difference is claimed. The exam ends as soon as it is
    decided; asked for again with more pairs, it goes on where it ended.
    """
    from evolve.leaving import export_file, export_git, export_tsv
    from evolve.reading import find_run

    trains = ["cache", "address", "require_sandbox"]
    if form != "file":
        refuse_unread(["pairs", *trains], f"on --format {form}, which holds no exam")
    elif not pairs:
        refuse_unread(trains, "without an exam (--pairs 0)")
    folder = find_run(runs, name)
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

    from evolve.composition import cache_folder
    from evolve.doctor import BROKEN, examine_machine, report
    from evolve.taskfile import find_task

    findings = examine_machine(task or find_task(), cache_folder(cache), runs, address)
    _print([asdict(found) for found in findings] if as_json else report(findings))
    return 1 if any(found.state == BROKEN for found in findings) else 0


for command in (*pages.COMMANDS, *remote.COMMANDS):
    cli.add_command(command)


def _print(answer: object) -> None:
    """Print text as it is and everything else as JSON."""
    if isinstance(answer, str):
        click.echo(answer)
        return
    from evolve.writing import json_text

    click.echo(json_text(answer))


if __name__ == "__main__":
    main()
