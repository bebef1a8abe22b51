"""Small families: founders, and children that did well, badly or not at all."""

from dataclasses import replace

from population.history import History, Report, Standing
from population.individual import Failed, IndividualId, Stage
from tests.mutate.programs import BASE, DONOR, history, standing


def known(*sources: str, survivors: tuple[int, ...] = ()) -> History:
    standings = [standing(number, source, 1.0) for number, source in enumerate(sources, 1)]
    return history(standings, survivors)


FOUNDERS = known(BASE, DONOR, survivors=(1, 2))


def with_(*standings: Standing) -> History:
    return history([standing(1, BASE, 1.0), standing(2, DONOR, 1.0), *standings], (1, 2))


def child(
    number: int, operator: str, fitness: float | None, failures: int = 0, source: str = BASE
) -> Standing:
    born = standing(number, source, fitness, failures)
    individual = replace(born.individual, operator=operator, parents=(IndividualId(1),))
    return replace(born, individual=individual)


def broken(
    number: int,
    operator: str = "slow",
    stage: Stage = Stage.TRAINING,
    in_flight: int = 0,
    reason: str = "crash",
) -> Standing:
    failed = standing(number, BASE, None, failures=int(stage is not Stage.INFRASTRUCTURE))
    individual = replace(failed.individual, operator=operator, parents=(IndividualId(1),))
    report = Report(Failed(stage, reason, "it raised"))
    return replace(failed, individual=individual, report=report, in_flight=in_flight)
