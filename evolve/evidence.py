"""What is known about the program that a run exports: the exam's claim and where it comes from."""

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evolve.config import write_text
from evolve.live import leader
from evolve.taskfile import format_budget
from population.errors import RunError
from population.exam import Examination, examine
from population.individual import Individual, Result, Scored
from population.lineage import DuckLineage
from population.ports import Evaluation
from population.state import State
from population.task import Task

EVIDENCE = "evidence.json"


class Exporter:
    """Puts the best program and the evidence for it into a folder."""

    def __init__(self, run: str, task: Task, lineage: DuckLineage) -> None:
        self._run = run
        self._task = task
        self._lineage = lineage

    def export(
        self, state: State, folder: Path, evaluation: Evaluation | None, pairs: int
    ) -> dict[str, Any]:
        """Write the best program and `evidence.json`, and return the evidence.

        With an evaluation and at least one pair the exam is held first: champion against the
        best founder on fresh seeds. A champion that is a founder is compared with nobody.

        Raises:
            RunError: nothing is scored yet, or the folder cannot be written.
            PoolError, LineageError: from the exam.
        """
        champion, founder = leader(state), best_founder(state)
        if champion is None or founder is None:
            raise RunError("nothing is scored in this run yet: there is nothing to export")
        examination = None
        if evaluation is not None and pairs and champion.id != founder.id:
            examination = examine(
                champion,
                founder,
                evaluation,
                self._lineage,
                state,
                self._task.shards,
                pairs,
                self._lineage.identity().seed,
            )
            self._lineage.publish()
        program = folder / self._task.artifact
        evidence = self._evidence(state, champion, founder, examination, program)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(program, champion.genome.source)
            write_text(folder / EVIDENCE, json.dumps(evidence, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(
                f"{folder} cannot be written ({error.strerror}); name another with --output"
            ) from error
        return evidence

    def _evidence(
        self,
        state: State,
        champion: Individual,
        founder: Individual,
        examination: Examination | None,
        program: Path,
    ) -> dict[str, Any]:
        results = state.results[champion.id]
        last = results[-1]
        identity = self._lineage.identity()
        return {
            "run": self._run,
            "task": self._task.name,
            "metric": self._task.metric,
            "direction": self._task.direction,
            "budget": format_budget(self._task.budget),
            "claim": _claim(examination),
            "champion": _standing(champion, state),
            "founder": _standing(founder, state),
            "evaluations_of_the_run": state.counted,
            "exam_readings_of_the_run": state.exam_reads,
            "line_of_descent": list(_line(champion, state)),
            "program_sha256": champion.genome.sha256,
            "evaluator_sha256": identity.evaluator_sha256,
            "data_sha256": identity.data_sha256,
            "data": self._task.data,
            "comparability": asdict(last.comparability) | {"key": last.comparability.key},
            "sandbox": list(last.sandbox),
            "device": last.device,
            "host": last.host,
            "scores": [_score(result) for result in results],
            "reproduce": self._command(program),
        }

    def _command(self, program: Path) -> str:
        words = ["evolve", "try", str(program), "--task", str(self._task.root)]
        words += ["--budget", format_budget(self._task.budget), "--shard", self._task.shards[2]]
        if self._task.data is not None:
            words += ["--data", self._task.data]
        return shlex.join([*words, "--repeat", "3"])


def best_founder(state: State) -> Individual | None:
    """Return the founder with the best shrunken mean, None where none is scored."""
    standings = [state.history().standings[one] for one in state.founders]
    scored = [standing for standing in standings if standing.fitness is not None]
    best = max(scored, key=lambda s: (s.fitness, -s.individual.id), default=None)
    return best.individual if best else None


def verdict(evidence: dict[str, Any]) -> str:
    """Return what an export found, in a few lines for people."""
    claim, champion, founder = evidence["claim"], evidence["champion"], evidence["founder"]
    if champion["individual"] == founder["individual"]:
        return f"the best program is founder #{founder['individual']}: there is nothing to claim"
    if claim is None:
        return "no exam was held: nothing is claimed"
    lines = [f"exam: {failure}" for failure in claim["failures"]]
    if claim["difference"] is None:
        return "\n".join([*lines, "exam: no complete pair: nothing is claimed"])
    width = "unknown" if claim["half_width"] is None else f"{claim['half_width']:.4f}"
    says = "better than" if claim["better"] else "not shown to differ from"
    lines.append(
        f"exam: #{champion['individual']} is {says} founder #{founder['individual']}: "
        f"{evidence['metric']} {claim['difference']:+.4f} +- {width} "
        f"({100 * claim['confidence']:g}%, {claim['pairs']} pairs on fresh seeds)"
    )
    return "\n".join(lines)


def _claim(examination: Examination | None) -> dict[str, Any] | None:
    if examination is None:
        return None
    claim = examination.claim
    return {
        "difference": claim.difference if claim else None,
        "half_width": claim.half_width if claim and math.isfinite(claim.half_width) else None,
        "confidence": claim.confidence if claim else None,
        "pairs": claim.pairs if claim else 0,
        "better": bool(claim and claim.better),
        "champion_scores": list(examination.champion),
        "founder_scores": list(examination.founder),
        "failures": list(examination.failures),
    }


def _standing(individual: Individual, state: State) -> dict[str, Any]:
    standing = state.history().standings[individual.id]
    known = math.isfinite(standing.standard_error)
    return {
        "individual": individual.id,
        "name": individual.name,
        "operator": individual.operator,
        "shrunken_mean": None
        if standing.fitness is None
        else state.direction.fitness(standing.fitness),
        "standard_error": standing.standard_error if known else None,
        "evaluations": standing.evaluations,
    }


def _line(individual: Individual, state: State) -> Iterator[dict[str, Any]]:
    """Yield the champion and its first parents up to the founder."""
    one: Individual | None = individual
    while one is not None:
        yield _standing(one, state) | {
            "parents": list(one.parents),
            "changes": [
                {"category": change.category, "hypothesis": change.hypothesis}
                for change in one.changes
            ],
        }
        one = state.individuals[one.parents[0]] if one.parents else None


def _score(result: Result) -> dict[str, Any]:
    outcome = result.outcome
    return {
        "evaluation": result.request,
        "value": outcome.value if isinstance(outcome, Scored) else None,
        "failure": None if isinstance(outcome, Scored) else outcome.reason,
        "contended": result.contended,
        "comparability": result.comparability.key,
    }
