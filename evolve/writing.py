"""Files that a run and its commands write for people and programs."""

import json
import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
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
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
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


def print_answer(answer: object) -> None:
    """Print text as it is and everything else as JSON."""
    print(answer if isinstance(answer, str) else json_text(answer), flush=True)


def json_text(answer: object) -> str:
    """Return an answer as strict JSON: what is no number there, such as infinity, is null."""
    return json.dumps(_finite(answer), indent=2, default=str, allow_nan=False)


def _finite(answer: object) -> object:
    if isinstance(answer, float):
        return answer if math.isfinite(answer) else None
    if isinstance(answer, Mapping):
        return {key if isinstance(key, str) else str(key): _finite(answer[key]) for key in answer}
    if isinstance(answer, list | tuple):
        return [_finite(one) for one in answer]
    return answer


def _refused(file: Path, error: OSError) -> RunError:
    return RunError(
        f"{file} cannot be written ({error.strerror}); make room there or name another place"
    )
