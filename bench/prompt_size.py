"""How many tokens a proposal costs, for a program of any size, after 5, 50 and 300 individuals.

    python -m bench.prompt_size TRAIN.PY [--proposals 40]

Sizes are stated by bytes per token, since no large model tells its tokenizer: 4 is the usual rule
of thumb, 2.8 what a vocabulary of 49,000 (SmolLM2) makes of the founders. The share
that comes from the cache is measured: proposals go through the real SDK to a local server that
caches by the API's rules, their parents drawn by tournament as in a search.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evolve.taskfile import REPOSITORY
from mutate import prompt
from mutate.claude import Claude
from mutate.llm import Question
from mutate.models import DEFAULT, KNOWN
from mutate.prompt import Brief, Intent
from population.history import History, Program
from population.individual import Individual, IndividualId
from population.parents import choose_parents
from population.task import Direction
from tests.mutate import told
from tests.mutate.messages_server import MessagesServer, Reply

MODEL = next(model for model in KNOWN if model.name == DEFAULT)
BYTES_PER_TOKEN = (4.0, 3.3, 2.8)
INTENTS = (Intent.EXPLORE, Intent.REFINE, Intent.SIMPLIFY, Intent.CROSSOVER)


def question(
    intent: Intent, parents: Sequence[Individual], history: History, brief: Brief, seed: int
) -> Question:
    """Return what the model would be asked."""
    rng = np.random.default_rng(seed)
    opening = prompt.opening(intent, parents, history, brief, rng, MODEL)
    return Question(MODEL, prompt.system(brief, history.program.text, MODEL), (opening,), 16_000)


def brief() -> Brief:
    contract = (REPOSITORY / "docs" / "contract.md").read_text(encoding="utf-8")
    return Brief("train.py", "val_bpb", Direction.MINIMIZE, "300s", contract)


def sizes(source: str) -> None:
    """Print the bytes and tokens of the prompts for each intent and size of the run."""
    program = Program((REPOSITORY / "program.md").read_text(encoding="utf-8"))
    print(f"program of {len(source.encode()):,} bytes")
    heads = " ".join(f"{f'tokens at {rate} B':>16}" for rate in BYTES_PER_TOKEN)
    print(f"{'individuals':>11} {'intent':<10} {'bytes':>8} {heads} {'prefix and parent':>18}")
    for count in (5, 50, 300):
        history = replace(told.many(count, source), program=program)
        for intent in INTENTS:
            wanted = history.survivors[: 2 if intent is Intent.CROSSOVER else 1]
            parents = [history.standings[one].individual for one in wanted]
            asked = question(intent, parents, history, brief(), 0)
            whole = len(asked.text.encode())
            cached = sum(len(b.text.encode()) for b in (*asked.system, asked.turns[0][0]))
            tokens = " ".join(f"{whole / rate:>16,.0f}" for rate in BYTES_PER_TOKEN)
            print(f"{count:>11} {intent:<10} {whole:>8,} {tokens} {cached / whole:>18.0%}")


def cache_share(source: str, proposals: int) -> None:
    """Print what share of the input of a series of proposals is read from the cache."""
    program = Program((REPOSITORY / "program.md").read_text(encoding="utf-8"))
    history = replace(told.many(300, source), program=program)
    survivors: tuple[IndividualId, ...] = history.survivors
    rng = np.random.default_rng(0)
    read = cached = written = usd = uncached_usd = 0.0
    with MessagesServer(lambda body: Reply("no")) as server:
        os.environ |= {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "none"}
        claude = Claude()
        for number in range(proposals):
            ids = choose_parents(history.standings, survivors, 1, rng)
            parents = [history.standings[one].individual for one in ids]
            intent = INTENTS[int(rng.integers(3))]
            answer = claude.ask(question(intent, parents, history, brief(), number))
            read += answer.usage.read
            cached += answer.usage.cached
            written += answer.usage.written
            usd += MODEL.cost_usd(answer.usage.fresh, answer.usage.written, answer.usage.cached, 0)
            uncached_usd += MODEL.cost_usd(answer.usage.read, 0, 0, 0)
        claude.close()
    print(
        f"\n{proposals} proposals of {len(survivors)} survivors: {cached / read:.0%} of the input "
        f"read from the cache, {written / read:.0%} written to it; the input costs "
        f"{usd / uncached_usd:.2f} of what it would without"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("program", type=Path)
    parser.add_argument("--proposals", type=int, default=40)
    given = parser.parse_args()
    source = given.program.read_text(encoding="utf-8")
    sizes(source)
    cache_share(source, given.proposals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
