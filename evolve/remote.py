"""The commands that steer a run from outside."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evolve.options import FILE, Positive, Whole, examples, json_option, refuse_unread, run_options

if TYPE_CHECKING:
    from evolve.steering import Answer

GOOD = ("done", "waiting")


def _individual(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("individual", metavar="ID", type=Whole(1))(command)


@click.command(
    epilog=examples(
        'evolve inject mine.py --parent 17 --hypothesis "a longer warm-up steadies the start"',
        'evolve inject mine.py --hypothesis "two small models, averaged" --wait --json',
    )
)
@click.argument("file", type=FILE)
@click.option("--hypothesis", required=True, help="Why it should be better; kept with it.")
@run_options
@click.option(
    "--parent", metavar="ID", type=Whole(1), help="Whose text was changed (default: none)."
)
@click.option("--category", default="program", help="What it touches, in a word, like optimizer.")
@click.option("--wait", is_flag=True, help="Until it is scored or has failed.")
@click.option(
    "--timeout",
    type=Positive(),
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
    from evolve.writing import print_answer

    if not given["wait"]:
        refuse_unread(["timeout"], "without --wait", "add --wait, or leave it out")
    wait_s = given["timeout"] if given["wait"] else None
    wish = read_wish(file, given["hypothesis"], given["category"], given["parent"])
    answer = inject_program(find_run(runs, name), wish, wait_s)
    print_answer(asdict(answer) if as_json else describe(answer))
    good = ("scored",) if given["wait"] else ("waiting", "taken", "scored")
    return 0 if answer.state in good else 1


@click.command(epilog=examples("evolve pause", "evolve pause --run NAME"))
@run_options
@json_option
def pause(name: str | None, runs: Path, as_json: bool) -> int:
    """Let nothing new begin in a running run; `evolve resume` ends that.

    What trains goes on and is recorded; no program is bred, no language model asked. A pause does
    not count towards --hours and belongs to the present call of `evolve run`: the next one begins
    without it.
    """
    from evolve import steering

    return _tell(steering.pause(_run(runs, name)), as_json)


@click.command(epilog=examples("evolve resume"))
@run_options
@json_option
def resume(name: str | None, runs: Path, as_json: bool) -> int:
    """Let a run that was paused go on."""
    from evolve import steering

    return _tell(steering.resume(_run(runs, name)), as_json)


@click.command(epilog=examples("evolve stop --run NAME --wait"))
@run_options
@click.option("--wait", is_flag=True, help="Until the driver has ended.")
@click.option(
    "--timeout",
    type=Positive(),
    default=120.0,
    help="Seconds that --wait waits at most (default: 120).",
)
@json_option
def stop(name: str | None, runs: Path, wait: bool, timeout: float, as_json: bool) -> int:
    """End a running `evolve run` or an exam cleanly, as Ctrl-C does there.

    Nothing that was recorded is lost: `evolve run --run NAME` goes on, and first trains again what
    was in flight; `evolve export --run NAME` goes on with an exam.
    """
    from evolve import steering

    if not wait:
        refuse_unread(["timeout"], "without --wait", "add --wait, or leave it out")
    return _tell(steering.stop(_run(runs, name), timeout if wait else None), as_json)


@click.command(epilog=examples("evolve kill 17"))
@_individual
@run_options
@json_option
def kill(individual: int, name: str | None, runs: Path, as_json: bool) -> int:
    """End the trainings of individual ID that are in flight in a running run.

    Each fails as `killed` and is not made again; scores that ID has already it keeps. Exit code 1:
    nothing of it was in flight but, perhaps, a confirmation, on which another one may wait.
    """
    from evolve import steering

    return _tell(steering.kill(_run(runs, name), individual), as_json)


@click.command(epilog=examples("evolve pin 17", "evolve pin 17 --off"))
@_individual
@click.option("--off", is_flag=True, help="Let it go again.")
@run_options
@json_option
def pin(individual: int, off: bool, name: str | None, runs: Path, as_json: bool) -> int:
    """Keep individual ID among the survivors, whatever its rank.

    From the next selection on it takes one of the places (--mu); where more are pinned, the fittest
    of them do. It has to be scored, and not held in quarantine. If the run is not running, the next
    `evolve run` takes it first.
    """
    from evolve import steering

    return _tell(steering.pin(_run(runs, name), individual, pinned=not off), as_json)


@click.command(
    epilog=examples(
        "evolve record",
        "evolve record 17 --value 0.73",
        "evolve record 17 --counts 37/120 --note 'the second week'",
        "evolve record 17 --failed 'it does not start'",
    )
)
@click.argument("individual", metavar="[ID]", type=Whole(1), required=False)
@click.option("--value", type=float, help="Of the metric.")
@click.option("--counts", metavar="K/N", help="K of N succeeded: their ratio is the value.")
@click.option("--failed", metavar="WHY", help="It is worth nothing, since it does not work.")
@click.option("--note", default="", help="Anything else; kept with the result.")
@run_options
@json_option
def record(
    individual: int | None, name: str | None, runs: Path, as_json: bool, **said: Any
) -> None:
    """Record what individual ID is worth, where results come from outside.

    Without ID it tells which programs wait for a result. A program that waits more than once, as
    founders do, takes one result after another, each found out anew. A run that does not go on at
    the moment takes results when it does.
    """
    from evolve import recording
    from evolve.writing import print_answer

    folder = _run(runs, name)
    if individual is None:
        refuse_unread(list(said), "without an ID", "name the individual that it is about")
        waits = recording.waits(folder)
        print_answer(waits if as_json else recording.table(folder, waits))
        return
    found = recording.read_said(**said)
    answer = recording.record_result(folder, individual, found)
    print_answer(answer if as_json else recording.describe(answer))


COMMANDS = (inject, record, pause, resume, stop, kill, pin)


def _run(runs: Path, name: str | None) -> Path:
    from evolve.reading import find_run

    return find_run(runs, name)


def _tell(answer: "Answer", as_json: bool) -> int:
    from dataclasses import asdict

    from evolve.writing import print_answer

    print_answer(asdict(answer) if as_json else answer.says)
    return 0 if answer.state in GOOD else 1
