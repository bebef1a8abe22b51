"""How the reading commands look in a terminal. Everything from candidates is escaped."""

import time
from collections.abc import Mapping
from typing import Any

from evolve.live import asking_line, exam_line
from evolve.reading import Rows
from evolve.text import ago, clean, columns, count, duration, half_width, number, one_line, quantity

LOG_LINES = 20
BARS = "▁▂▃▄▅▆▇█"


SELF_REPORTED = (
    "self-reported: each program printed its own score, nobody confirmed it, and nothing is claimed"
)


def caveats(found: Mapping[str, Any]) -> list[str]:
    """Return what is to be known before scores are believed, a line each.

    Args:
        found: `self_reported`: whether programs score themselves. `unprotected`: how many scores
            were made within reach of the validation data. `disturbed`: how many others disturbed,
            of `ranking_scores`; left out where nobody has looked.
    """
    doubts = [SELF_REPORTED] if found["self_reported"] else _unprotected(found["unprotected"])
    return [*doubts, *_disturbed(found.get("disturbed", 0), found.get("ranking_scores"))]


def _unprotected(scores: int) -> list[str]:
    if not scores:
        return []
    made = "score was" if scores == 1 else "scores were"
    return [
        f"{scores} {made} made where candidates could read the validation data (no Landlock): "
        "they count only if no program looked"
    ]


def _disturbed(scores: int, among: int | None) -> list[str]:
    if not scores:
        return []
    some = count(scores, "score") if among is None else f"{scores} of {among} ranking scores"
    return [
        f"{some} {'was' if scores == 1 else 'were'} made while others used the machine, which "
        "makes them worse and noisier: use a quiet one; model tasks can count steps instead "
        "(--budget 200steps)"
    ]


def leaderboard(rows: Rows, doubts: Mapping[str, Any]) -> str:
    """Return `evolve top`: rank, shrunken mean with its 95% interval, evaluations, origin, age."""
    names = "rank", "id", "shrunken", "+-", "n", "failed", "operator", "parents", "gen", "age", ""
    lines = [
        (
            row["rank"],
            row["individual"],
            number(row["shrunken_mean"]),
            number(half_width(row["standard_error"])),
            row["evaluations"],
            row["failures"],
            row["name"] or row["operator"],
            ",".join(map(str, row["parents"])),
            row["generation"],
            duration(time.time() - row["born_at"]),
            marks(row),
        )
        for row in rows.objects()
    ]
    table = columns(names, lines) if lines else "nothing is scored yet"
    return "\n".join([table, *caveats(doubts)])


def marks(row: Mapping[str, Any]) -> str:
    """Return what else to know of a row of the leaderboard, in words."""
    found = [row["quarantine"] or ("alive" if row["alive"] else "")]
    found += ["pinned"] if row.get("pinned") else []
    if row["disturbed"]:
        some = row["disturbed"] < row["evaluations"]
        found.append(f"{row['disturbed']} disturbed" if some else "disturbed")
    return " ".join(found).strip()


def status(found: dict[str, Any]) -> str:
    """Return `evolve status`."""
    state = "running" if found["running"] else "not running"
    if found["elsewhere"]:
        state = f"running on {found['elsewhere']}, unless that has ended it without a word"
    state = "paused: nothing new begins" if found["paused"] else state
    state = exam_line(found["exam"]) if found["exam"] else state
    lines = [
        f"{found['run']}: {state}, published {ago(found['published_s_ago'])}",
        f"task {found['task']}, {found['metric']}: {found['direction']}, seed {found['seed']}",
        f"{found['individuals']} individuals, {found['scored']} evaluations scored, "
        f"{found['failed']} failed, generation {found['generation']}, "
        f"{number(found['evaluations_per_hour'], 0)} evaluations/h, "
        f"cost {found['cost_usd']:.2f} USD",
        f"noise of one evaluation {number(found['sigma'] or None)}, "
        f"confirmation shard read {count(found['confirmation_readings'], 'time')}, "
        f"exam shard {count(found['exam_readings'], 'time')}",
    ]
    best = found["best"]
    if best is not None:
        error = number(half_width(best["standard_error"]))
        who = one_line(best["name"] or best["operator"])
        lines.append(
            f"best {number(best['shrunken_mean'])} +- {error} (95%, shrunken)  "
            f"#{best['individual']} {who}, {count(best['evaluations'], 'evaluation')}"
        )
    share = (found["waste"] or {}).get("wasted_share")
    if share is not None:
        lines.append(f"failures took {share:.1%} of the device time after the first 20 evaluations")
    if found["short"]:
        trained = count(found["short"], "newcomer")
        lines.append(f"{trained} trained shortly first, {found['let_through']} let through")
    if found["pinned"]:
        who = ", ".join(f"#{one}" for one in found["pinned"])
        lines.append(f"pinned among the survivors: {who}")
    lines += caveats(found)
    if found["live"]:
        now = time.time()
        if calls := found["live"].get("asking"):
            lines.append(f"  {asking_line(calls)}")
        lines += [
            f"  running #{slot['individual']} {one_line(slot['operator'])} ({slot['purpose']}) "
            f"for {duration(now - slot['since'])}"
            for slot in found["live"]["running"]
        ]
    tables = ("operators", "models", "failures")
    for title, table in ((title, found[title]) for title in tables):
        if table:
            lines += ["", title, columns(list(table[0]), [list(row.values()) for row in table])]
    return "\n".join(lines)


def individual(found: dict[str, Any]) -> str:
    """Return `evolve show`: origin, standing, changes, evaluations, curve, log tail."""
    parents = ", ".join(f"#{parent}" for parent in found["parents"])
    origin = f"{found['operator']} of {parents}" if parents else found["operator"]
    lines = [
        f"#{found['id']} {one_line(found['name'] + ' ' + origin)}, "
        f"born {ago(time.time() - found['born_at'])}"
    ]
    standing = found["standing"]
    if standing is not None:
        error = number(half_width(standing["standard_error"]))
        lines.append(
            f"rank {standing['rank']}, shrunken mean {number(standing['shrunken_mean'])} "
            f"+- {error} (95%), mean {number(standing['mean'])} of "
            f"{count(standing['evaluations'], 'evaluation')}, {standing['failures']} failed"
        )
    if found["pinned"]:
        lines.append("pinned: it stays among the survivors; `evolve pin ID --off` ends that")
    lines += caveats(found)
    constants = "  ".join(f"{name}={value}" for name, value in found["constants"].items())
    lines.append(f"constants: {one_line(constants, 400)}" if constants else "no tunable constants")
    for change in found["changes"]:
        lines += ["", f"{one_line(change['category'])}: {one_line(change['hypothesis'], 400)}"]
        if change["diff"]:  # a program that was put in without a parent has none
            lines.append(clean(change["diff"]).rstrip())
    return "\n".join([*lines, *_calls(found), *_evaluations(found), *_tail(found)])


def _calls(found: dict[str, Any]) -> list[str]:
    if not found["calls"]:
        return []
    names = ("what", "model", "effort", "in", "cached", "out", "USD", "s", "ended", "outcome")
    rows = [
        (
            *(call["what"], call["model"], call["effort"]),
            *(call["tokens_in"], call["tokens_cached"], call["tokens_out"]),
            *(f"{call['cost_usd']:.4f}", f"{call['duration_s']:.1f}", call["stop_reason"]),
            one_line(call["outcome"], 80),
        )
        for call in found["calls"]
    ]
    return ["", columns(names, rows)]


def conversation(found: dict[str, Any]) -> str:
    """Return `evolve show --prompts`: what language models were asked and answered, in full."""
    parts = []
    for nth, call in enumerate(found["calls"], 1):
        rule = "-" * 20
        parts.append(f"{rule} call {nth}, {call['what']}, {call['model']}: asked {rule}")
        parts.append(clean(call["prompt"] or ""))
        parts.append(f"{rule} call {nth}: answered ({call['stop_reason']}) {rule}")
        parts.append(clean(call["answer"] or ""))
    return "\n".join(parts) or "no language model was asked for it"


def _evaluations(found: dict[str, Any]) -> list[str]:
    names = ("evaluation", "purpose", "shard", "seed", "status", "value", "seconds", "disturbed")
    rows = [[row[name] for name in names] for row in found["evaluations"]]
    lines = ["", columns(names, rows)] if rows else ["", "not evaluated yet"]
    lines += [
        f"{row['evaluation']}: failed in {row['stage']}, {row['reason']}: "
        f"{one_line(row['detail'], 300)}"
        for row in found["evaluations"]
        if row["reason"]
    ]
    last = max((row["evaluation"] for row in found["measurements"]), default=None)
    measured = [
        f"{row['name']} {quantity(row['value'], row['unit'])}"
        for row in found["measurements"]
        if row["evaluation"] == last
    ]
    if measured:
        lines.append(f"measured in {last}: " + ", ".join(measured))
    if found["time_by_line"]:
        lines.append(f"time of the training by line: {clean(found['time_by_line'])}")
    if found["curve"]:
        lines.append(f"reported loss: {sparkline([loss for _, loss in found['curve']])}")
    return lines


def _tail(found: dict[str, Any]) -> list[str]:
    if not found["log"].strip():
        return []
    tail = clean(found["log"]).rstrip().splitlines()[-LOG_LINES:]
    return ["", f"log of the last evaluation that printed, {len(tail)} lines:", *tail]


def sparkline(values: list[float]) -> str:
    """Return values as bars between their least and largest, both written beside them."""
    low, high = min(values), max(values)
    step = (high - low) / (len(BARS) - 1) or 1.0
    bars = "".join(BARS[round((value - low) / step)] for value in values)
    return f"{values[0]:.4g} {bars} {values[-1]:.4g}"


def descent(steps: list[dict[str, Any]]) -> str:
    """Return `evolve lineage`: the line from the founder down, each step with its gain."""
    lines = []
    for depth, step in enumerate(steps):
        branch = "   " * (depth - 1) + "└─ " if depth else ""
        who = one_line(step["name"] or step["operator"])
        others = "".join(f" with #{other}" for other in step["others"] or ())
        gain = "" if step["gain"] is None else f"  gain {step['gain']:+.4f}"
        lines.append(
            f"{branch}#{step['individual']} {who}{others}  mean {number(step['mean'])}{gain}"
        )
    counts = {doubt: sum(step[doubt] for step in steps) for doubt in ("unprotected", "disturbed")}
    return "\n".join([*lines, *caveats(steps[0] | counts)])
