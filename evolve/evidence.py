"""The best program of a run and what is known about it: the exam's claim and its origin."""

import json
import math
import shlex
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evolve.disturbed import DISTURBED
from evolve.exams import read_exams
from evolve.live import leader
from evolve.reading import Reading
from evolve.taskfile import format_budget
from evolve.verdict import exam_lines
from evolve.writing import json_text, write_text
from population.claims import ERROR_BUDGET
from population.errors import RunError
from population.exam import UNWATCHED, Examination, Invigilator, examine
from population.individual import Individual, IndividualId, Purpose
from population.lineage import DuckLineage
from population.ports import Evaluation
from population.state import State
from population.statistics import moderated
from population.task import Task

EVIDENCE = "evidence.json"
NOTHING = "nothing is scored in this run yet: there is nothing to export; `evolve status` tells why"
UNFOUNDED = (
    "no founder has a score, so there is nothing to compare the best program with: `evolve show` "
    "tells why each of them failed"
)


@dataclass(frozen=True, slots=True)
class Finalists:
    """Whom an export is about."""

    champion: IndividualId
    founder: IndividualId


def finalists_of(state: State) -> tuple[Individual, Individual]:
    """Return the best individual and the best founder; they may be the same.

    Raises:
        RunError: nothing is scored yet.
    """
    champion, founder = leader(state), best_founder(state)
    if champion is None:
        raise RunError(NOTHING)
    if founder is None:
        raise RunError(UNFOUNDED)
    return champion, founder


def hold_exam(
    state: State,
    lineage: DuckLineage,
    evaluation: Evaluation,
    task: Task,
    pairs: int,
    invigilator: Invigilator = UNWATCHED,
) -> Finalists:
    """Compare the best individual with the best founder, and publish what came of it.

    What was found stands in the lineage, from where `export` reads it. A champion that is a founder
    or has scored itself is compared with nobody.

    Raises:
        RunError: nothing is scored yet.
        PoolError, LineageError: from the exam.
    """
    champion, founder = finalists_of(state)
    if champion.id == founder.id or task.self_reported:
        return Finalists(champion.id, founder.id)
    seed, shards = lineage.identity().seed, task.shards
    examine(champion, founder, evaluation, lineage, state, shards, pairs, seed, invigilator)
    lineage.publish(state.ranks())
    return Finalists(champion.id, founder.id)


def best_founder(state: State) -> Individual | None:
    """Return the founder with the best shrunken mean, None where none is scored."""
    standings = [state.history().standings[one] for one in state.founders]
    scored = [standing for standing in standings if standing.fitness is not None]
    best = max(scored, key=lambda s: (s.fitness, -s.individual.id), default=None)
    return best.individual if best else None


def published_finalists(reading: Reading) -> Finalists:
    """Return the finalists as of the last publication, without an exam.

    Raises:
        RunError: nothing is scored yet, or no founder is.
    """
    ranked = reading.query("SELECT individual, operator FROM leaderboard ORDER BY rank").objects()
    founder = next((row["individual"] for row in ranked if row["operator"] == "founder"), None)
    if founder is None:
        raise RunError(UNFOUNDED if ranked else NOTHING)
    return Finalists(IndividualId(ranked[0]["individual"]), IndividualId(founder))


def export(reading: Reading, task: Task, finalists: Finalists, folder: Path) -> dict[str, Any]:
    """Write the champion's program and `evidence.json` into a folder and return the evidence.

    The claim is that of all exams of the two so far, wherever they were exported.

    Raises:
        RunError: the folder cannot be written.
    """
    program = folder / task.artifact
    source = reading.individual(finalists.champion)["source"]
    evidence = _evidence(reading, task, finalists, program)
    keep_apart(folder, evidence["program_sha256"])
    write_text(program, source)
    write_text(folder / EVIDENCE, json_text(evidence) + "\n")
    return evidence


def keep_apart(folder: Path, program_sha256: str) -> None:
    """Rename the evidence in a folder to `evidence-ID.json` where it is of another program.

    Called before the program beside it is replaced, so that no program lies beside another's.

    Raises:
        RunError: it cannot be renamed.
    """
    file = folder / EVIDENCE
    try:
        kept = json.loads(file.read_text("utf-8"))
        of, owner = kept["program_sha256"], str(int(kept["champion"]["individual"]))
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        of, owner = None, "unreadable"
    if of == program_sha256:
        return
    try:
        file.replace(folder / f"evidence-{owner}.json")
    except OSError as error:
        raise RunError(
            f"{file} belongs to another program and cannot be renamed ({error.strerror}); move it"
        ) from error


def _evidence(reading: Reading, task: Task, finalists: Finalists, program: Path) -> dict[str, Any]:
    run = reading.run()
    scores = _scores(reading, finalists)
    own = [row for row in scores if row["individual"] == finalists.champion]
    judged = _judged(reading, finalists, scores)
    return {
        "run": reading.folder.name,
        "task": run["task"],
        "direction": run["direction"],
        "budget": format_budget(task.budget) if task.trains else None,
        **judged,
        **_effort(reading),
        "line_of_descent": reading.descent(finalists.champion),
        "program_sha256": own[-1]["source_sha256"],
        "evaluator_sha256": run["evaluator_sha256"],
        "data_sha256": run["data_sha256"],
        "data": task.data,
        "comparability": reading.query("SELECT * FROM comparability WHERE key <> ''").objects(),
        "scores": scores,
        "reproduce": _command(task, program),
        "reproduce_note": _note(judged),
    }


def _judged(reading: Reading, finalists: Finalists, scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what `verdict` tells: the exams' claims, who was compared, what it cost."""
    exams, pair = read_exams(reading), (finalists.champion, finalists.founder)
    claim = _claim(exams.of(*pair), _noise(reading, finalists, scores))
    doubts = reading.doubts_of(pair).values()
    if claim is not None:
        claim["disturbed"] = _disturbed_in_exam(scores)
    return {
        "metric": reading.run()["metric"],
        "claim": claim,
        "other_exams": [
            {"champion": champion, "founder": founder} | (_claim(found, None) or {})
            for champion, founder, found in exams.besides(*pair)
        ],
        "cost": cost_of(reading, claim),
        "champion": _standing(reading, finalists.champion),
        "founder": _standing(reading, finalists.founder),
        "self_reported": reading.self_reported(),
        "unprotected": sum(one["unprotected"] for one in doubts),
        "disturbed": sum(one["disturbed"] for one in doubts),
    }


def _disturbed_in_exam(scores: list[dict[str, Any]]) -> int:
    """Return how many of the exam's scores others disturbed: of each pair the latest attempt."""
    latest = {
        (row["individual"], row["seed"]): row["value"] is not None and row["disturbed"]
        for row in scores
        if row["purpose"] == Purpose.EXAM
    }
    return sum(latest.values())


def _scores(reading: Reading, finalists: Finalists) -> list[dict[str, Any]]:
    """Return all that both programs scored.

    `disturbed`: others used the machine meanwhile, `foreign_share` of the program's cores.
    `to_repeat`: it was to be made again for that.
    """
    return reading.query(
        "SELECT v.individual, e.source_sha256, v.purpose, v.shard, v.seed, v.value, v.reason, "
        "d.disturbed, d.foreign_share, v.contended AS to_repeat, v.comparability, v.device, "
        "v.host, r.sandbox "
        "FROM evaluations v JOIN evaluation e ON e.id = v.evaluation "
        "JOIN result r ON r.evaluation = v.evaluation "
        f"JOIN {DISTURBED} d ON d.evaluation = v.evaluation "
        "WHERE v.individual IN (?, ?) ORDER BY v.evaluation",
        [finalists.champion, finalists.founder],
    ).objects()


def _effort(reading: Reading) -> dict[str, Any]:
    return reading.query(
        "SELECT count(DISTINCT (individual, seed, purpose)) FILTER (purpose IN ('screen', 'race')) "
        "AS evaluations_of_the_run, "
        "count(*) FILTER (purpose = 'rung') AS short_trainings_of_the_run, "
        "count(*) FILTER (purpose = 'confirm') AS confirmation_readings_of_the_run, "
        "count(*) FILTER (purpose = 'exam') AS exam_readings_of_the_run FROM evaluations"
    ).objects()[0]


def _standing(reading: Reading, individual: IndividualId) -> dict[str, Any]:
    return reading.query(
        "SELECT individual, name, operator, generation, shrunken_mean, standard_error, mean, "
        "evaluations, failures, parents, quarantine FROM leaderboard WHERE individual = ?",
        [individual],
    ).objects()[0]


def _noise(
    reading: Reading, finalists: Finalists, scores: list[dict[str, Any]]
) -> dict[str, float] | None:
    """Return the noise of one score of both programs, None while the run does not know it."""
    found = reading.query("SELECT sigma FROM selection ORDER BY seq DESC LIMIT 1").objects()
    if not found or not found[0]["sigma"]:
        return None
    groups: dict[int, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in scores:
        whole = row["purpose"] != "rung" and not row["to_repeat"]
        if whole and row["value"] is not None and math.isfinite(row["value"]):
            shard = row["shard"], row["comparability"]
            groups[row["individual"]][shard].append(row["value"])
    typical = found[0]["sigma"]
    champion, founder = (
        moderated(groups[one].values(), typical) for one in (finalists.champion, finalists.founder)
    )
    both = math.sqrt((champion**2 + founder**2) / 2)
    return {"typical": typical, "champion": champion, "founder": founder, "both": both}


def _claim(
    examination: Examination | None, noise: dict[str, float] | None
) -> dict[str, Any] | None:
    if examination is None:
        return None
    claim = examination.claim
    return {
        "difference": claim.difference if claim else None,
        "half_width": claim.half_width if claim and math.isfinite(claim.half_width) else None,
        "confidence": claim.confidence if claim else None,
        "pairs": claim.pairs if claim else 0,
        "error": claim.error if claim else None,
        "comparison": examination.comparison,
        "error_budget_of_the_run": ERROR_BUDGET,
        "better": bool(claim and claim.better),
        "noise": noise,
        "champion_scores": list(examination.champion),
        "founder_scores": list(examination.founder),
        "failures": list(examination.failures),
        "less_reliable": examination.less_reliable,
    }


def cost_of(reading: Reading, claim: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what language models cost, and what a confirmed gain cost; None where none was asked.

    The exam confirms one improvement or none.
    """
    spent = reading.query(
        "SELECT count(*) AS calls, sum(cost_usd) AS usd, sum(tokens_in) AS tokens_in, "
        "sum(tokens_cached) AS tokens_cached, sum(tokens_out) AS tokens_out FROM calls"
    ).objects()[0]
    if not spent["calls"]:
        return None
    confirmed = claim is not None and claim["better"]
    gain = abs(claim["difference"]) if claim is not None and confirmed else None
    return spent | {
        "usd_per_confirmed_improvement": spent["usd"] if confirmed else None,
        "usd_per_thousandth": spent["usd"] / (gain / 0.001) if gain else None,
    }


def _command(task: Task, program: Path) -> str:
    """Return how its score is made again, as a command or in words."""
    if not task.trains:
        return f"find out what {program} is worth, as {task.evaluator} says"
    words = ["evolve", "try", str(program), "--task", str(task.root)]
    words += ["--budget", format_budget(task.budget.whole), "--device", task.device]
    words += [] if task.self_reported else ["--shard", task.shards[2]]
    if task.data is not None:
        words += ["--data", task.data]
    return shlex.join([*words, "--repeat", "3"])


def _note(judged: dict[str, Any]) -> str:
    """Return why its score comes out otherwise elsewhere, in a sentence; empty where none does."""
    if not ((judged["claim"] or {}).get("disturbed") or judged["disturbed"]):
        return ""
    return (
        "its scores were made on a busy machine: a quieter one scores it otherwise, usually better"
    )


def findings(reading: Reading) -> list[str]:
    """Return what exams have found so far, as `verdict` tells it; nothing while nothing is scored.

    Raises:
        LineageError: the publication cannot be read.
    """
    try:
        finalists = published_finalists(reading)
    except RunError:
        return []
    judged = _judged(reading, finalists, _scores(reading, finalists))
    return exam_lines(judged)
