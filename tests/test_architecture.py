"""Who may import whom, and where each vendor library lives, read from the files themselves."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("evolve", "population", "mutate", "evaluate", "prepare")
MAY_IMPORT = {
    "evolve": {"population", "mutate", "evaluate"},
    "population": set(),
    "mutate": {"population"},
    "evaluate": {"population"},
    "prepare": set(),
    "seeds": {"prepare"},
}
POPULATION_SEAMS = {"individual", "task", "errors", "ports", "history"}
HOMES = {
    "anthropic": {"mutate/claude.py", "mutate/attempts.py"},
    # what the SDK speaks through; prepare.py downloads with it
    "httpx2": {"mutate/claude.py", "mutate/attempts.py", "prepare.py"},
    "optuna": {"mutate/constants.py", "evaluate/pruning.py"},
    "cmaes": {"mutate/cma.py"},
    "scipy": {"mutate/gaussian.py", "mutate/thompson.py"},
    "ray": {"evaluate/pool.py"},
    "duckdb": {"population/database.py", "prepare.py"},  # prepare.py reads documents in Parquet
    "tokenizers": {"prepare.py"},
    "torch": {"prepare.py", "seeds/", "evaluate/", "evolve/doctor.py"},
    "rich": {"evolve/"},
    "plotly": {"evolve/web/charts.py"},
    "flask": {"evolve/web/server.py"},
    "werkzeug": {"evolve/web/server.py"},
    "jinja2": {"evolve/web/"},
    "click": {"evolve/"},
}


def sources() -> Iterator[tuple[str, str]]:
    """Yield (room, path relative to the root) of every source file that is not a test."""
    for room in (*ROOMS[:-1], "seeds"):
        for file in sorted((ROOT / room).rglob("*.py")):
            yield room, file.relative_to(ROOT).as_posix()
    yield "prepare", "prepare.py"


@cache
def imports(path: str) -> set[str]:
    """Return the dotted names of the modules that a file imports, at whatever depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written in full"
            found.add(str(node.module))
    return found


@pytest.mark.parametrize(("room", "path"), list(sources()))
def test_a_room_imports_only_the_rooms_that_it_may(room: str, path: str) -> None:
    ours = {name.split(".")[0] for name in imports(path)} & set(ROOMS) - {room}
    assert ours <= MAY_IMPORT[room]


@pytest.mark.parametrize(
    "path", [path for room, path in sources() if room in ("mutate", "evaluate")]
)
def test_operators_and_evaluation_meet_the_population_only_at_its_seams(path: str) -> None:
    reached = {name.split(".")[1] for name in imports(path) if name.startswith("population.")}
    assert reached <= POPULATION_SEAMS


@pytest.mark.parametrize(("room", "path"), list(sources()))
def test_a_vendor_library_is_imported_only_in_its_home(room: str, path: str) -> None:
    vendors = {name.split(".")[0] for name in imports(path)} & set(HOMES)
    strays = {v for v in vendors if not any(path.startswith(home) for home in HOMES[v])}
    assert not strays


LIGHT = {
    "evolve.cli": "torch ray anthropic optuna duckdb rich numpy scipy",
    "evolve.running": "torch scipy.stats anthropic",  # a task may need no torch: its driver neither
    "evaluate.pool": "torch optuna duckdb scipy",  # every worker of Ray imports it
}


@pytest.mark.parametrize("module", LIGHT)
def test_importing_what_starts_first_loads_no_heavy_library(module: str) -> None:
    heavy = LIGHT[module].split()
    program = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_only_the_default_task_knows_about_bits_per_byte() -> None:
    for room, path in sources():
        if room in ("evolve", "population", "mutate", "evaluate"):
            text = (ROOT / path).read_text(encoding="utf-8").lower()
            assert "bpb" not in text, path
            assert "bits per byte" not in text, path
