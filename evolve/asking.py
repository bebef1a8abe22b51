"""The commands that read a run, while it goes on or afterwards."""

import sys
from pathlib import Path

import click

from evolve.options import (
    FILE,
    Whole,
    examples,
    json_option,
    refuse_unread,
    run_options,
    runs_option,
)


@click.command(epilog=examples("evolve status"))
@run_options
@json_option
def status(name: str | None, runs: Path, as_json: bool) -> None:
    """How far a run is: counts, best so far with its interval, operators, failures."""
    from evolve import printing
    from evolve.reading import Reading, find_run
    from evolve.writing import print_answer

    with Reading(find_run(runs, name)) as reading:
        found = reading.status()
    print_answer(found if as_json else printing.status(found))


@click.command(epilog=examples("evolve top -n 5"))
@run_options
@click.option("--limit", "-n", type=Whole(1), default=20, help="So many rows.")
@json_option
def top(name: str | None, runs: Path, limit: int, as_json: bool) -> None:
    """The leaderboard: shrunken mean, 95% interval, evaluations, origin, age.

    Who is `alive` may be a parent: the best, but one structure holds at most half of the places
    while programs of another have a score. `disturbed`: others used the machine meanwhile.
    """
    from evolve import printing
    from evolve.reading import Reading, find_run
    from evolve.writing import print_answer

    with Reading(find_run(runs, name)) as reading:
        rows, doubts = reading.top(limit), reading.doubts()
    print_answer(rows.objects() if as_json else printing.leaderboard(rows, doubts))


@click.command(epilog=examples("evolve show 17", "evolve show --source > best.py"))
@click.argument("individual", metavar="[ID]", type=Whole(1), required=False)
@run_options
@click.option("--source", is_flag=True, help="Its source text and nothing else.")
@click.option("--prompts", is_flag=True, help="What language models were asked and answered.")
@json_option
def show(individual: int | None, name: str | None, runs: Path, **how: bool) -> None:
    """One individual (default: the best): hypothesis, diff, scores, curve, log tail."""
    from evolve import printing
    from evolve.reading import Reading, find_run
    from evolve.text import clean
    from evolve.writing import print_answer

    if how["source"] and how["prompts"]:
        raise click.UsageError("--source prints the source and nothing else: leave out --prompts")
    with Reading(find_run(runs, name)) as reading:
        found = reading.individual(individual or reading.leader())
    if how["source"] and how["as_json"]:
        print_answer({"id": found["id"], "source": found["source"]})
        return
    if how["source"]:
        text = str(found["source"])
        click.echo(clean(text) if sys.stdout.isatty() else text.encode(), nl=False)
        return
    told = printing.conversation if how["prompts"] else printing.individual
    print_answer(found if how["as_json"] else told(found))


@click.command(epilog=examples("evolve lineage 17"))
@click.argument("individual", metavar="[ID]", type=Whole(1), required=False)
@run_options
@json_option
def lineage(individual: int | None, name: str | None, runs: Path, as_json: bool) -> None:
    """The line of descent of one individual (default: the best), each step with its gain."""
    from evolve import printing
    from evolve.reading import Reading, find_run
    from evolve.writing import print_answer

    with Reading(find_run(runs, name)) as reading:
        steps = reading.descent(individual or reading.leader())
    print_answer(steps if as_json else printing.descent(steps))


@click.command(
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


@click.command(epilog=examples("evolve report", "evolve report --run NAME -o morning.html"))
@run_options
@click.option("--output", "-o", type=FILE, help="The file (default: report.html in the run's).")
@json_option
def report(name: str | None, runs: Path, output: Path | None, as_json: bool) -> None:
    """A run as one HTML page that needs nothing else: progress, descent, leaders, evidence."""
    from evolve.reading import Reading, find_run
    from evolve.report import contents
    from evolve.report import report as written
    from evolve.writing import print_answer, write_text

    if as_json:
        refuse_unread(["output"], "beside --json", "redirect the output, or leave it out")
    folder = find_run(runs, name)
    with Reading(folder) as reading:
        if as_json:
            print_answer(contents(reading))
            return
        file = output or folder / "report.html"
        write_text(file, written(reading))
    click.echo(file)


@click.command(
    epilog=examples("evolve ui", "ssh -L 8437:localhost:8437 HOST   # of another machine")
)
@runs_option
@click.option("--port", type=Whole(0, 65535), default=8437, help="0: any free one (default: 8437).")
@click.option("--open", "opens", is_flag=True, help="Open it in a browser.")
def ui(runs: Path, port: int, opens: bool) -> None:
    """The report of each run, live in a browser on this machine, with buttons that steer it."""
    import webbrowser

    from evolve.web.server import serve

    def tell(address: str) -> None:
        click.echo(f"{address}  (Ctrl-C ends it, and no run)")
        if opens:
            webbrowser.open(address)

    serve(runs, port, tell)


COMMANDS = (status, report, ui, top, show, lineage, query)
