"""Scores that a program writes itself, and a judge that it rewrites."""

from tests.attacks.attack import HONEST, Attack
from tests.evaluate.conftest import program

PATCHED = """
import prepare
prepare.metric = lambda *_: 0.1
prepare.evaluation_rows = lambda *_: []
prepare.SHARDS = ("train", "train", "train")
prepare.settings = lambda *_: prepare.SCALES["cpu"]
prepare.SCALES["cpu"] = None
"""

PATCHED_SESSION = """
prepare.Session.budget = prepare.TrainingBudget("seconds", 1e9)
run.progress = 0.0
run.seed = 7
run.vocab_size = run.vocab_size
run.evaluation_batch = run.evaluation_batch
"""

FILES = """
import json, os
for name in ("result.json", "score.json", "evidence.json", "live.json", "lineage.duckdb", "stdout"):
    open(name, "w").write(json.dumps({"value": 0.1, "val_bpb": 0.1}))
os.makedirs("scoring"); os.makedirs("trusted")
open("scoring/result.json", "w").write('{"value": 0.1}')
"""


def instead(statement: str) -> str:
    """Return a program that puts something in the place of its copy of the evaluator."""
    return program(at_bell=f"import os\nos.unlink('prepare.py')\n{statement}\n")


ATTACKS = {
    "a printed score": Attack(
        program(at_bell="print('val_bpb: 0.1')\nprint('{\"value\": 0.1}')\n"), HONEST
    ),
    "a printed event of the harness": Attack(
        program(at_bell="print('J' + '\\0' * 8 + '{\"event\": \"delivered\", \"value\": 0.1}', flush=True)\n"),
        HONEST,
    ),
    "a loss of nothing": Attack(program(in_loop="    run.report(0.0)\n"), HONEST),
    "a loss that is no number": Attack(
        program(in_loop="    run.report(float('nan')); run.report(float('-inf'))\n"), HONEST
    ),
    "files that look like results": Attack(program(at_bell=FILES), HONEST),
    "an evaluator patched in memory": Attack(program(first=PATCHED), HONEST),
    "a session patched in memory": Attack(program(before_clock=PATCHED_SESSION), HONEST),
    "torch patched in memory": Attack(
        program(at_bell="torch.log_softmax = torch.isfinite = lambda *a, **k: torch.zeros(1)\n"),
        HONEST,
    ),
    "an exit code that means success": Attack(
        program(at_bell="import os\nos._exit(0)\n"), "handin no_handin"
    ),
    "an exit code that means our fault": Attack(
        program(before_clock="import os\nos._exit(99)\n"), "startup out_of_memory"
    ),
    "an evaluator changed in place": Attack(
        program(at_bell="open('prepare.py', 'a').write('# mine')\n"), "handin crash"
    ),
    "an evaluator replaced by a file": Attack(
        instead("open('prepare.py', 'w').write('SHARDS = ()')"), "training tampered"
    ),
    "an evaluator replaced by nothing": Attack(instead(""), "training tampered"),
    "an evaluator replaced by a folder": Attack(
        instead("os.mkdir('prepare.py')"), "training tampered"
    ),
    "an evaluator replaced by a link to the true one": Attack(
        instead("os.symlink('../trusted/prepare.py', 'prepare.py')"),
        "training tampered",
    ),
    "an evaluator replaced by a link to a copy of it": Attack(
        program(at_bell="import os\nos.rename('prepare.py', 'kept')\nos.symlink('kept', 'prepare.py')\n"),
        "training tampered",
    ),
    "an evaluator replaced by a link to another user's file": Attack(
        instead("os.symlink('/proc/@PID@/environ', 'prepare.py')"), "training tampered"
    ),
    "an evaluator replaced by a link to itself": Attack(
        instead("os.symlink('prepare.py', 'prepare.py')"), "training tampered"
    ),
    "an evaluator replaced by a pipe that nobody fills": Attack(
        instead("os.mkfifo('prepare.py')"),
        "training tampered",
    ),
    "an evaluator that is too large to read": Attack(
        instead("os.truncate(os.open('prepare.py', os.O_CREAT | os.O_RDWR), 50 << 20)"),
        "training tampered",
    ),
}  # fmt: skip
