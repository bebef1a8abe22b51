"""docs/tour.md leads a reader through the code: every place that it names must be there."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOUR = (ROOT / "docs" / "tour.md").read_text()
LINK = re.compile(r"\[([\w/]+\.(?:py|md))\]\(([^)\s]+)\)")
STOPS = TOUR.split("**Beside the reading**")[0]


def named(text: str) -> list[tuple[str, str]]:
    """Return (file, name) for each name in backticks behind a link, up to the next link."""
    links = list(LINK.finditer(text))
    ends = [link.start() for link in links[1:]] + [len(text)]
    return [
        (link[1], name)
        for link, end in zip(links, ends, strict=True)
        for name in re.findall(r"`(\w+)`", text[link.end() : end].partition("\n\n")[0])
    ]


@pytest.mark.parametrize("shown, target", LINK.findall(TOUR))
def test_every_link_leads_to_a_file(shown: str, target: str) -> None:
    assert (ROOT / "docs" / target).resolve() == (ROOT / shown)
    assert (ROOT / shown).is_file()


@pytest.mark.parametrize("file, name", named(STOPS))
def test_every_name_is_defined_in_the_file_before_it(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    kinds = ast.FunctionDef, ast.ClassDef
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_the_stops_are_in_order() -> None:
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", STOPS, re.MULTILINE)]
    assert len(numbers) > 1
    assert all(after == before + 1 for before, after in pairwise(numbers))
