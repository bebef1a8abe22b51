"""The ways to search: the population, and controls that anyone can run on a task of their own."""

from dataclasses import dataclass

from mutate.constants import Sampler, chosen_step, cma, step, tpe, uniform
from population.limits import RACING_SHARE
from population.parents import Mode


@dataclass(frozen=True, slots=True)
class Control:
    """What tells one way to search from another.

    Attributes:
        mode: who breeds. sampler: of the numeric operator.
        racing_share: of the evaluations; a control evaluates each program once, as it is known.
        constants_only: nothing else varies.
    """

    mode: Mode
    sampler: Sampler
    racing_share: float = 0.0
    constants_only: bool = False


CONTROLS = {
    "evolve": Control(Mode.EVOLVE, chosen_step, RACING_SHARE),
    "greedy": Control(Mode.GREEDY, step),
    "best-of": Control(Mode.BEST_OF, step),
    "random": Control(Mode.FOUNDER, uniform, constants_only=True),
    "tpe": Control(Mode.FOUNDER, tpe, constants_only=True),
    "cmaes": Control(Mode.FOUNDER, cma, constants_only=True),
}
