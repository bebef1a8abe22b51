"""The skill for coding agents names commands and options that exist."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from evolve.cli import cli
from evolve.taskfile import load_task

ROOT = Path(__file__).resolve().parent.parent
SKILL = (ROOT / "skills" / "evolve-train" / "SKILL.md").read_text(encoding="utf-8")
OPERATORS = set("<>|&;")


def blocks(language: str) -> list[str]:
    """Return the contents of the skill's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", SKILL, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Return each line of a shell block that calls `evolve`."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("evolve ")]


def words(line: str) -> list[str]:
    """Return the words of a command up to a redirection, as a shell would pass them."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="".join(OPERATORS))
    lexer.whitespace_split = True
    found = list(lexer)
    end = next((n for n, word in enumerate(found) if set(word) <= OPERATORS), len(found))
    return found[1:end]


@pytest.mark.parametrize("line", commands())
def test_each_command_of_the_skill_is_understood(line: str) -> None:
    name, *rest = words(line)
    cli.commands[name].make_context(name, rest).close()


@pytest.mark.parametrize("line", ["evolve brew", "evolve top --height 3", "evolve show last"])
def test_what_does_not_exist_would_be_found(line: str) -> None:
    name, *rest = words(line)
    with pytest.raises((KeyError, click.UsageError)):
        cli.commands[name].make_context(name, rest)


def test_the_skill_teaches_every_step() -> None:
    taught = {words(line)[0] for line in commands()}
    assert taught >= {"doctor", "try", "run", "status", "top", "query", "lineage", "show"}
    assert taught >= {"inject", "export"}


def test_comments_and_redirections_are_no_words() -> None:
    assert words("evolve show 7 --source > a.py   # the best") == ["show", "7", "--source"]
    assert words('evolve query "a < 2 * b" > b.txt 2>&1 &') == ["query", "a < 2 * b"]


def test_the_task_of_the_skill_is_one(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    named = tomllib.loads(text)
    (tmp_path / "seeds").mkdir()
    (tmp_path / "task.toml").write_text(text, encoding="utf-8")
    for file in (named["program"], named["evaluator"]["file"], *named["seeds"]):
        (tmp_path / file).write_text("", encoding="utf-8")
    assert load_task(tmp_path).artifact == "solve.py"


def test_agents_find_the_skill_by_its_name_and_its_description() -> None:
    _, front, body = SKILL.split("---\n", 2)
    assert re.match(r"name: evolve-train\ndescription: \S.{100,1000}\n$", front)
    assert body.count("\n") < 200
