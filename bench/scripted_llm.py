"""A whole run whose language model is a script of good, bad and malicious answers.

    python -m bench.scripted_llm --evaluations 60

`evolve run` trains the polynomial for real and asks a server on this machine through the real SDK.
Afterwards every answer that the server gave is looked up in the lineage: how it ended, its
tokens, its cost. Exit code 1 where one is missing or a sum is off.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from evolve.reading import Reading
from evolve.taskfile import REPOSITORY
from mutate.models import DEFAULT, KNOWN
from tests.evolve.scripted_model import ENDINGS, ScriptedModel
from tests.mutate.messages_server import MessagesServer

MODEL = next(model for model in KNOWN if model.name == DEFAULT)


def run(folder: Path, url: str, evaluations: int) -> int:
    """Run the search as a person would and return its exit code."""
    command = [sys.executable, "-m", "evolve.cli", "run", "--run", "a", "--plain"]
    command += ["--task", str(REPOSITORY / "tests" / "tasks" / "polynomial"), "--slots", "2"]
    command += ["--llm", "--cost", "50", "--evaluations", str(evaluations), "--runs", str(folder)]
    environment = {name: text for name, text in os.environ.items() if "ANTHROPIC" not in name}
    environment |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none"}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode


def accounts(model: ScriptedModel, calls: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Return what was given and what was recorded, by name: equal, if nothing is lost."""
    given = Counter(ENDINGS.get(kind, "end_turn") for kind in model.kinds)
    given.pop(None, None)  # the SDK asked again
    recorded = Counter(call["stop_reason"] for call in calls)
    rows: list[tuple[str, float, float]] = [
        (f"ended with {name or 'an error'}", given[name], recorded[name])
        for name in sorted({*given, *recorded})
    ]
    for name, column in (("read", "tokens_in"), ("cached", "tokens_cached")):
        charged = sum(getattr(usage, name) for usage in model.usages)
        rows.append((f"tokens {name}", charged, sum(call[column] for call in calls)))
    whole = [call for call in calls if call["stop_reason"] != "cut"]
    rows.append(("tokens written", model.written(), sum(call["tokens_out"] for call in whole)))
    priced = sum(
        MODEL.cost_usd(
            call["tokens_in"] - call["tokens_cached"] - call["tokens_written"],
            call["tokens_written"],
            call["tokens_cached"],
            call["tokens_out"],
        )
        for call in calls
    )
    rows.append(
        ("USD by the prices", round(priced, 9), round(sum(call["cost_usd"] for call in calls), 9))
    )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--evaluations", type=int, default=60)
    given = parser.parse_args()
    model, begun = ScriptedModel(), time.monotonic()
    with tempfile.TemporaryDirectory() as name, MessagesServer(model) as server:
        code = run(Path(name), server.url, given.evaluations)
        with Reading(Path(name) / "a") as reading:
            calls = reading.query("FROM calls WHERE outcome NOT LIKE 'stopped%'").objects()
            status = reading.status()
            table = reading.query(
                "SELECT operator, proposals, refused, evaluated, failed, improved, "
                "round(cost_usd, 4) AS usd FROM operators"
            )
    print(f"\nexit code {code} after {time.monotonic() - begun:.0f} s")
    print(f"{status['scored']} scored, {status['failed']} failed, of {status['individuals']}")
    for row in table.rows:
        print(*row)
    print("answers given:", dict(model.counted()))
    rows = accounts(model, calls)
    for what, there, here in rows:
        print(
            f"{what:<28} given {there:>12} recorded {here:>12} {'' if there == here else 'DIFFERS'}"
        )
    return int(code != 0 or any(there != here for _, there, here in rows))


if __name__ == "__main__":
    sys.exit(main())
