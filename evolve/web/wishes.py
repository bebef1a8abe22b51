"""What the buttons of a page ask for, passed on as the commands of the same names do it."""

from pathlib import Path
from typing import Any

from evolve.control import Inject
from evolve.injecting import inject_program
from population.errors import RunError

COMMANDS = ("inject",)


def fulfil(folder: Path, command: str, wish: dict[str, Any]) -> tuple[bool, str]:
    """Pass a wish on to the run in `folder`; return whether it was taken, and what is to be said.

    Args:
        folder: of the run.
        command: one of `COMMANDS`.
        wish: what it says, untrusted: `individual`, or the fields of a program.

    Raises:
        EvolveError: it says something that the command refuses.
    """
    return _inject(folder, wish)


def _inject(folder: Path, wish: dict[str, Any]) -> tuple[bool, str]:
    parent = str(wish.get("parent") or "")
    try:
        injection = Inject(
            str(wish.get("source", "")).replace("\r\n", "\n"),
            str(wish.get("hypothesis", "")),
            str(wish.get("category") or "program"),
            int(parent) if parent else None,
        )
    except ValueError as error:
        raise RunError(f"the program cannot be put in: {error}") from error
    answer = inject_program(folder, injection, None)
    if answer.state == "refused":
        return False, f"refused: {answer.reason}"
    return True, f"put in: {answer.next}"
