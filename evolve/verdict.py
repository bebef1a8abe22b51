"""What exams have found, in words: from the evidence, which is plain data."""

from typing import Any

from evolve.printing import caveats
from population.claims import fewest_pairs


def verdict(evidence: dict[str, Any]) -> str:
    """Return what an export found, in a few lines for people."""
    return "\n".join([*exam_lines(evidence), *caveats(evidence)])


def exam_lines(evidence: dict[str, Any]) -> list[str]:
    """Return what the exam of both programs found, then what others of the run did."""
    return [*_own_exam(evidence), *_other_exams(evidence)]


def _own_exam(evidence: dict[str, Any]) -> list[str]:
    claim, champion, founder = evidence["claim"], evidence["champion"], evidence["founder"]
    if champion["individual"] == founder["individual"]:
        return [f"the best program is founder #{founder['individual']}: there is nothing to claim"]
    if evidence["self_reported"]:
        return [f"no exam of #{champion['individual']} is held: nobody can confirm its score"]
    if claim is None:
        return [f"no exam of #{champion['individual']} was held: nothing is claimed of it"]
    lines = [f"exam: {failure}" for failure in claim["failures"]]
    if claim["difference"] is None:
        return [*lines, "exam: no complete pair: nothing is claimed"]
    return [*lines, *_findings(evidence), *_price(evidence)]


def _other_exams(evidence: dict[str, Any]) -> list[str]:
    """Return what this run has found of other programs than those which are exported."""
    return [
        f"another exam of this run: {_says(exam, exam['champion'], exam['founder'], evidence)}, "
        f"{exam['pairs']} pairs, comparison {exam['comparison']}"
        for exam in evidence["other_exams"]
    ]


def _says(claim: dict[str, Any], champion: int, founder: int, evidence: dict[str, Any]) -> str:
    metric = evidence["metric"]
    if claim["difference"] is None:
        return f"#{champion} and founder #{founder} have no complete pair"
    width = "unknown" if claim["half_width"] is None else f"{claim['half_width']:.4f}"
    if claim["better"]:
        gain = f"{abs(claim['difference']):.4f} +- {width} {metric}"
        return f"#{champion} is better than founder #{founder} by {gain}"
    return (
        f"#{champion} is not shown to be better than founder #{founder}: "
        f"{metric} {'lower' if claim['difference'] < 0 else 'higher'} by "
        f"{abs(claim['difference']):.4f} +- {width}"
    )


def _findings(evidence: dict[str, Any]) -> list[str]:
    claim = evidence["claim"]
    champion, founder = evidence["champion"]["individual"], evidence["founder"]["individual"]
    noise, less_reliable = claim["noise"], claim["less_reliable"]
    return [
        f"exam: {_says(claim, champion, founder, evidence)} "
        f"({100 * claim['confidence']:g}%, {claim['pairs']} pairs on fresh seeds"
        + (f", noise of one score {noise['both']:.4f})" if noise is not None else ")"),
        f"      claimed falsely in at most {100 * claim['error']:.2g}% of cases: comparison "
        f"{claim['comparison']} of this run, of whose {100 * claim['error_budget_of_the_run']:g}% "
        f"it gets 1/{claim['error_budget_of_the_run'] / claim['error']:.0f}",
        *_too_few(claim),
        *_on_a_busy_machine(claim),
        *(["      it failed more often than the founder, which rules a claim out"] * less_reliable),
    ]


def _too_few(claim: dict[str, Any]) -> list[str]:
    fewest = fewest_pairs(claim["error"])
    if claim["pairs"] >= fewest:
        return []
    return [f"      so few pairs claim nothing, whatever they show: ask for {fewest} or more"]


def _on_a_busy_machine(claim: dict[str, Any]) -> list[str]:
    if not claim["disturbed"]:
        return []
    return [
        f"      others used the machine during {claim['disturbed']} of its scores: the interval "
        "has that noise in it, but scores and difference are those of a busy machine"
    ]


def _price(evidence: dict[str, Any]) -> list[str]:
    cost = evidence["cost"]
    if cost is None:
        return []
    head = f"language models: {cost['usd']:.4f} USD in {cost['calls']} calls"
    if cost["usd_per_thousandth"] is None:
        return [f"{head}, no improvement confirmed"]
    return [
        f"{head}: {cost['usd_per_confirmed_improvement']:.4f} USD per confirmed improvement, "
        f"{cost['usd_per_thousandth']:.5f} USD per 0.001 {evidence['metric']}"
    ]
