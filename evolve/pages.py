"""The commands that show a run as a page."""

from pathlib import Path

import click

from evolve.options import FILE, examples, json_option, refuse_unread, run_options, runs_option


@click.command(epilog=examples("evolve report", "evolve report --run NAME -o morning.html"))
@run_options
@click.option("--output", "-o", type=FILE, help="The file (default: report.html in the run's).")
@json_option
def report(name: str | None, runs: Path, output: Path | None, as_json: bool) -> None:
    """A run as one HTML page that needs nothing else: progress, descent, leaders, evidence."""
    from evolve.reading import Reading, find_run
    from evolve.report import contents, default_file
    from evolve.report import report as written
    from evolve.writing import json_text, write_text

    if as_json:
        refuse_unread(["output"], "beside --json", "redirect the output, or leave it out")
    folder = find_run(runs, name)
    with Reading(folder) as reading:
        if as_json:
            click.echo(json_text(contents(reading)))
            return
        file = output or default_file(folder)
        write_text(file, written(reading))
    click.echo(file)


@click.command(
    epilog=examples("evolve ui", "ssh -L 8437:localhost:8437 HOST   # of another machine")
)
@runs_option
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8437, help="0: any free one (default: 8437)."
)
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


COMMANDS = (report, ui)
