"""The search and its controls on a real task: whole runs, champions trained anew and compared.

    python -m bench.controls OUT --evaluations 60 --replicates 3
    python -m bench.controls OUT --minutes 6 --searches evolve@10s evolve@2s,10s    two budgets

Each search is run by `evolve run`, one after the other, that none disturbs another. Its champion is
exported without an exam, then trained on fresh seeds and scored on a shard that selected nothing;
so is the best founder, on the same seeds. All of it lies in OUT: the same command goes on where it
was. On two cores the default task takes about seven minutes a run.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.intervals import paired_difference
from evolve.config import SEARCHES

FRESH_SEED = 1_000_003
"""Of the trainings that are reported. Runs draw theirs from 32 bits."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one search has found.

    Attributes:
        origin: the operator that made its champion.
        scores: of the champion, one a fresh seed. founder: of the best founder, on the same seeds.
        claimed: the shrunken mean by which the run chose it, on the selection shard.
        evaluations: of the run, repetitions on a busy machine included. failed: of these.
        seconds: of the run, wall clock.
    """

    search: str
    seed: int
    origin: str
    scores: tuple[float, ...]
    founder: tuple[float, ...]
    claimed: float
    evaluations: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How each search is run and its champion trained anew, on `shard`, `repeat` times.

    Attributes:
        limit: what ends a run, as options of `evolve run`.
    """

    out: Path
    limit: tuple[str, ...]
    repeat: int
    shard: str

    def found(self, search: str, seed: int) -> Found:
        """Return what a search has found; it is run, or gone on with, where that is not known.

        Args:
            search: a mode, and after an `@` its budget where that is not the task's.
            seed: of the run.
        """
        name = f"{re.sub('[@,]', '-', search)}-{seed}"
        kept = self.out / f"{name}.json"
        if not kept.exists():
            kept.write_text(json.dumps(asdict(self._run(search, seed, name))), "utf-8")
        fields = json.loads(kept.read_text("utf-8"))
        return Found(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    def _run(self, search: str, seed: int, name: str) -> Found:
        run = ("--run", name, "--runs", str(self.out))
        began = time.monotonic()
        mode, _, budget = search.partition("@")
        asked = ("--search", mode, "--seed", str(seed), *(("--budget", budget) if budget else ()))
        evolve("run", *run, *asked, *self.limit, "--no-llm", "--plain", "--no-export")
        seconds = time.monotonic() - began
        evolve("export", *run, "--pairs", "0")
        best = self.out / name / "best"
        evidence = json.loads((best / "evidence.json").read_text("utf-8"))
        status = json.loads(evolve("status", *run, "--json"))
        founder = evidence["founder"]["individual"]
        source = self.out / f"{name}-founder.py"
        source.write_text(evolve("show", str(founder), *run, "--source"), "utf-8")
        with ThreadPoolExecutor(2) as both:  # as many at once as the run trained
            files = (best / "train.py", source)
            scores = list(both.map(lambda file: self._scores(file, budget), files))
        return Found(
            search,
            seed,
            evidence["champion"]["operator"],
            *scores,
            evidence["champion"]["shrunken_mean"],
            status["scored"] + status["failed"],
            status["failed"],
            seconds,
        )

    def _scores(self, file: Path, budget: str) -> tuple[float, ...]:
        """Return the program's scores on the fresh seeds, infinite where it earned none."""
        made = evolve("try", str(file), "--repeat", str(self.repeat), "--seed", str(FRESH_SEED),
                      "--shard", self.shard, *(("--budget", budget) if budget else ()),
                      "--json")  # fmt: skip
        rows = json.loads(made)
        values = [row["value"] for row in (rows if self.repeat > 1 else [rows])]
        return tuple(math.inf if value is None else value for value in values)


def evolve(*arguments: str) -> str:
    """Return what the command prints. Raises CalledProcessError, its complaint is shown."""
    command = [sys.executable, "-m", "evolve.cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def table(found: Sequence[Found], subject: str) -> Table:
    """Return what each search has found, and how the subject compares, paired by seed.

    Smaller is better. Intervals are of means over runs: how runs differ, noise included.
    """
    out = Table(title="champions on fresh seeds and a shard that selected nothing")
    for header in ("search", "runs", "champion", "minus best founder", f"{subject} minus it",
                   "claimed - fresh", "failed", "minutes a run", "made by"):  # fmt: skip
        out.add_column(header)
    means = {(one.search, one.seed): statistics.fmean(one.scores) for one in found}
    for search in dict.fromkeys(one.search for one in found):
        own = [one for one in found if one.search == search]
        champion = [means[search, one.seed] for one in own]
        founder = [statistics.fmean(one.founder) for one in own]
        both = [one.seed for one in own if (subject, one.seed) in means]
        ours = [means[subject, seed] for seed in both]
        theirs = [means[search, seed] for seed in both]
        out.add_row(
            search,
            str(len(own)),
            " ".join(f"{value:.4f}" for value in champion),
            _difference(champion, founder),
            "" if search == subject else _difference(ours, theirs),
            _difference([one.claimed for one in own], champion),
            " ".join(f"{one.failed}/{one.evaluations}" for one in own),
            f"{statistics.fmean(one.seconds for one in own) / 60:.1f}",
            " ".join(one.origin for one in own),
        )
    return out


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    if not ours:
        return ""
    mean, half = paired_difference(ours, theirs)
    return f"{mean:+.4f} +- {half:.4f}"


def known(search: str) -> str:
    """Return a search as it was named. Raises ArgumentTypeError where there is none such."""
    if search.partition("@")[0] not in SEARCHES:
        raise argparse.ArgumentTypeError(f"no search {search!r}: one of {', '.join(SEARCHES)}")
    return search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of runs and results, to go on from")
    parser.add_argument("--searches", nargs="+", default=["evolve", "greedy", "random", "tpe"],
                        type=known, metavar="SEARCH[@BUDGET]")  # fmt: skip
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--minutes", type=float, help="a run takes, in place of evaluations")
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=5, help="fresh seeds of each champion")
    parser.add_argument("--shard", default="exam")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    limit = ("--evaluations", str(options.evaluations))
    if options.minutes:
        limit = ("--hours", str(options.minutes / 60))
    plan = Plan(options.out, limit, options.repeat, options.shard)
    console, found = Console(width=200), []
    seeds = range(options.first_seed, options.first_seed + options.replicates)
    for seed, search in product(seeds, options.searches):  # a table that is cut off is even
        found.append(plan.found(search, seed))
        console.log(f"{search} {seed}: {statistics.fmean(found[-1].scores):.4f}")
    console.print(table(found, options.searches[0]))


if __name__ == "__main__":
    main()
