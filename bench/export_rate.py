"""How many honest proposals the export rule costs: children refused after the static checks.

    python -m bench.export_rate --children 60

The task's founders breed by the operators that need no key, generation upon generation. Each
child's program runs up to `register()`, whose work is done here: trace, container, validation.
Exit code 1 where more than `--goal` of them are lost.
"""

import argparse
import json
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch

import prepare
from evaluate.container import HandInError, parse
from evaluate.spec import MAX_TENSOR_BYTES
from evolve.breeding import breeders
from evolve.composition import founders
from evolve.config import Breeding
from evolve.taskfile import find_task, load_task
from mutate.spending import Spent
from population.history import History, Standing
from population.individual import Individual, IndividualId
from population.ports import Proposal
from population.task import Task

SCALE = prepare.SCALES["cpu"]


class Registered(Exception):  # noqa: N818 - it ends a program, nothing went wrong
    """The program got as far as it is followed."""


class Session:
    """Stands in for the client's session up to `register`, on this machine's processor."""

    sequence_length, vocab_size = SCALE.sequence_length, SCALE.vocab_size
    evaluation_batch, device, seed, progress = SCALE.evaluation_batch, "cpu", 0, 0.0

    def warmup_tokens(self, rows: int) -> torch.Tensor:
        """Return tokens of the shape that the client returns."""
        return torch.zeros(rows, self.sequence_length, dtype=torch.int64)

    def register(self, model: torch.nn.Module) -> None:
        """Trace and check as candidate and feeder do. Raises what they would."""
        shape = (self.evaluation_batch, self.sequence_length)
        graph, table, _ = prepare.trace(model, shape, "cpu")
        document = {"version": 1, "tensors": table, "graph": graph}
        parse(json.dumps(document, allow_nan=False).encode(), max_tensor_bytes=MAX_TENSOR_BYTES)
        raise Registered


@dataclass(frozen=True, slots=True)
class Rate:
    """What became of all children; `lost` are those that the export rule refused."""

    passed_checks: int
    refused_by_checks: int
    registered: int
    lost: int
    crashed: int
    by_operator: dict[str, int]
    reasons: dict[str, int]

    @property
    def share(self) -> float:
        """Share of the children that passed the checks and were then refused."""
        return self.lost / max(self.passed_checks, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--children", type=int, default=60, help="that pass the static checks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--goal", type=float, default=0.02)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rate = measure(load_task(find_task()), options.children, options.seed)
    if options.json:
        print(json.dumps({**asdict(rate), "share": rate.share}))
    else:
        told(rate, options.goal)
    sys.exit(rate.share > options.goal)


def measure(task: Task, children: int, seed: int) -> Rate:
    """Breed and register; a child becomes a parent as soon as it has registered."""
    ends, operators, reasons = Counter[str](), Counter[str](), Counter[str]()
    for number, (proposal, keep) in enumerate(bred(task, np.random.default_rng(seed)), 1):
        if proposal.genome is None:
            ends["refused"] += 1
            continue
        operators[proposal.operator] += 1
        end, reason = registered(proposal.genome.source)
        ends[end] += 1
        if reason:
            reasons[reason] += 1
            print(f"child {number} by {proposal.operator}: {end}: {reason}", file=sys.stderr)
        else:
            keep(proposal)
        if operators.total() == children:
            break
    return Rate(operators.total(), ends["refused"], ends["registered"], ends["lost"],
                ends["crashed"], dict(operators), dict(reasons))  # fmt: skip


def bred(
    task: Task, rng: np.random.Generator
) -> Iterator[tuple[Proposal, Callable[[Proposal], None]]]:
    """Yield proposals for ever, each with the function that makes it a parent of later ones."""
    alive, operators = founders(task), breeders(Breeding(), task, Spent()).portfolio

    def keep(proposal: Proposal) -> None:
        assert proposal.genome is not None
        alive.append(Individual(
            IndividualId(len(alive) + 1), proposal.genome, proposal.parents, proposal.operator,
            structure=proposal.structure, fingerprint=proposal.fingerprint,
            constants=proposal.constants,
        ))  # fmt: skip

    while True:
        history = told_of(alive)
        operator = operators.choose(history, rng).variation
        parents = [alive[i] for i in rng.choice(len(alive), operator.arity, replace=False)]
        yield operator.propose(parents, history, rng), keep


def told_of(alive: list[Individual]) -> History:
    """Return a history in which everybody survives and is as fit as the others."""
    return History(
        standings={one.id: Standing(one, -2.5, 0.01, 1, 0, 0) for one in alive},
        survivors=tuple(one.id for one in alive),
        fingerprints={one.fingerprint: one.id for one in alive},
        sigma=0.01,
    )


def registered(source: str) -> tuple[str, str]:
    """Run a program up to its registration; return how it ended, and why where it was no success.

    Only for programs bred from our own founders: it runs here, outside the sandbox.
    """
    started, prepare.start = prepare.start, Session  # type: ignore[assignment, misc]
    torch.manual_seed(0)
    program = types.ModuleType("__main__")
    try:
        exec(compile(source, "train.py", "exec"), program.__dict__)
    except Registered:
        return "registered", ""
    except (prepare.HandInRefusedError, HandInError) as error:
        return "lost", str(error)[:200]
    except Exception as error:  # noqa: BLE001 - whatever a bred program raises is its result
        return "crashed", f"{type(error).__name__}: {error}"[:200]
    finally:
        prepare.start = started
    return "crashed", "ended without registering"


def told(rate: Rate, goal: float) -> None:
    print(f"passed the checks      {rate.passed_checks:5}  {rate.by_operator}")
    print(f"refused by the checks  {rate.refused_by_checks:5}")
    print(f"registered             {rate.registered:5}")
    print(f"crashed before that    {rate.crashed:5}")
    print(f"lost to the export     {rate.lost:5}  {rate.share:.1%}, goal at most {goal:.0%}")
    for reason, count in rate.reasons.items():
        print(f"  {count} x {reason}")


if __name__ == "__main__":
    main()
