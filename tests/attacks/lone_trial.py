"""A harness of its own: runs the program on standard input, prints how it ended.

python -m tests.attacks.lone_trial DATA
"""

import sys
from pathlib import Path

import prepare
from evaluate.spec import TrialSpec
from evaluate.trial import run_trial
from population.individual import EvaluationId, Genome, IndividualId, Purpose, Request
from population.task import EvaluatorKind
from tests.attacks.attack import BOUNDS, FIVE_STEPS


def main() -> None:
    """Run one trial."""
    request = Request(
        EvaluationId(1), IndividualId(1), Genome(sys.stdin.read()), 1, "selection", Purpose.TRY
    )
    spec = TrialSpec(
        request, "train.py", EvaluatorKind.MODEL, "prepare.py",
        Path(prepare.__file__).read_text(), (), sys.argv[1], "", "cpu", 1, 1, FIVE_STEPS, BOUNDS,
    )  # fmt: skip
    print(run_trial(spec).outcome)


if __name__ == "__main__":
    main()
