"""Files that a run and its commands write for people and programs."""

import os
import sys
from pathlib import Path

from evolve.text import clean
from population.errors import RunError


def write_text(file: Path, text: str) -> None:
    """Replace `file` by `text` in one step: a reader sees the old content or the new.

    Raises:
        RunError: the folder cannot be made or the file cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise _refused(file, error) from error


def write_output(output: Path | None, text: str) -> None:
    """Write an answer to a file, or to stdout where none is named.

    What would steer a terminal is written out there; files and pipes get every character.

    Raises:
        RunError: the file cannot be written.
    """
    if output is None:
        print(clean(text) if sys.stdout.isatty() else text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _refused(output, error) from error


def _refused(file: Path, error: OSError) -> RunError:
    return RunError(
        f"{file} cannot be written ({error.strerror}); make room there or name another place"
    )
