"""docs/lineage.md tells what each measurement is: all that there are, and no others."""

import ast
import re
from pathlib import Path

from evaluate.gauges import ACCOUNT_UNITS
from evaluate.scoring import SCORE_UNITS
from population.individual import LINE

ROOT = Path(__file__).parents[1]
COUNTS = {"trials", "successes"}


def made() -> set[str]:
    """Return the names that the sources of `evaluate/` give to measurements, wherever they do."""
    nodes = (
        node
        for file in (ROOT / "evaluate").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
    )
    first = (
        node.args[0]
        for node in nodes
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Measurement"
    )
    return {str(one.value) for one in first if isinstance(one, ast.Constant)}


def test_every_measurement_is_explained_and_nothing_else_is() -> None:
    section = (ROOT / "docs" / "lineage.md").read_text().split("## What is measured")[1]
    rows = re.findall(r"^\| (`.*?) \|", section.split("\n## ")[0], re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert explained == made() | ACCOUNT_UNITS.keys() | SCORE_UNITS.keys() | COUNTS | {f"{LINE}N"}
