"""The example of another domain: its score has no tolerance to use up, and its founders work."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.taskfile import load_task

CIRCLES = Path(__file__).parents[2] / "examples" / "circles"
SPREAD = [[0.1 + 0.2 * (n % 5), 0.1 + 0.2 * (n // 5 % 5), 0.02] for n in range(25)]


@pytest.fixture(scope="module")
def score() -> ModuleType:
    spec = importlib.util.spec_from_file_location("circles_score", CIRCLES / "score.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scored(folder: Path, circles: object) -> "subprocess.CompletedProcess[str]":
    (folder / "circles.json").write_text(json.dumps(circles))
    return subprocess.run(
        [sys.executable, CIRCLES / "score.py", folder], capture_output=True, text=True, check=False
    )


def test_circles_that_fit_score_the_sum_of_their_radii(tmp_path: Path) -> None:
    done = scored(tmp_path, [*SPREAD, [0.2, 0.2, 0.01]])
    assert json.loads(done.stdout)["value"] == pytest.approx(25 * 0.02 + 0.01)


@given(
    st.lists(st.tuples(*[st.floats(-0.2, 1.2)] * 2, st.floats(1e-6, 1.0)), min_size=2, max_size=9)
)
def test_what_is_scored_fits_however_the_circles_lay(
    score: ModuleType, circles: list[tuple[float, float, float]]
) -> None:
    factor = score.shrunk_by(circles)
    assert 0.0 <= factor <= 1.0
    for n, (x, y, r) in enumerate(circles):
        assert factor * r <= max(0.0, min(x, y, 1 - x, 1 - y)) + 1e-12
        for a, b, s in circles[:n]:
            assert factor * (r + s) <= math.hypot(x - a, y - b) + 1e-12


@pytest.mark.parametrize(
    "circles",
    [
        SPREAD,
        [*SPREAD, [0.2, 0.2, -0.1]],
        [*SPREAD, [0.2, 0.2, math.nan]],
        [*SPREAD, [0.2, 0.2, math.inf]],
        [*SPREAD, [0.2, 0.2]],
        {"circles": SPREAD},
        None,
    ],
)
def test_anything_else_is_refused_with_what_was_expected(tmp_path: Path, circles: object) -> None:
    done = scored(tmp_path, circles)
    assert done.returncode != 0
    assert "26 triples" in done.stderr


@pytest.mark.slow
def test_every_founder_leaves_a_packing(tmp_path: Path) -> None:
    for founder in load_task(CIRCLES).seeds:
        folder = tmp_path / founder.stem
        folder.mkdir()
        subprocess.run([sys.executable, founder], cwd=folder, check=True, timeout=60)
        circles = json.loads((folder / "circles.json").read_text())
        assert json.loads(scored(folder, circles).stdout)["value"] > 2.3
