"""The synthetic catalogue: edits are real texts, good structures need tuning, the best is known."""

import numpy as np
import pytest

from bench.catalogue import SIGMA, Catalogue, CatalogueMutation, edited, without
from bench.variants import KINDS, NAMES
from mutate.checks import Checks
from mutate.genome import constants, rewrite, structure, values
from mutate.recombination import Recombination
from population.history import History, Standing
from population.individual import Genome, Individual, IndividualId

CHECKS = Checks()


@pytest.fixture(scope="module")
def world() -> Catalogue:
    return Catalogue(0)


def individual(number: int, source: str) -> Individual:
    return Individual(IndividualId(number), Genome(source), structure=structure(source))


def history(*individuals: Individual) -> History:
    standings = {one.id: Standing(one, 0.0, 0.0, 1, 0, 0) for one in individuals}
    return History(standings, tuple(standings), {}, 0.0)


def value(world: Catalogue, source: str) -> float:
    found = world.truth(source).value
    assert found is not None
    return found


def test_one_seed_gives_one_world_and_another_seed_another_one(world: Catalogue) -> None:
    assert Catalogue(0).founders == world.founders
    assert Catalogue(1).founders != world.founders
    assert Catalogue(0, founders=1).founders == world.founders[:1]


def test_founders_are_programs_of_three_structures_that_pass_the_checks(world: Catalogue) -> None:
    assert len({structure(source) for source in world.founders}) == 3
    for source in world.founders:
        assert CHECKS.refusal(source) == ""
        assert {one.name for one in constants(source)} == set(NAMES)
        assert world.truth(source).value is not None


def test_most_edits_of_a_tuned_program_are_neutral_or_bad(world: Catalogue) -> None:
    effects = [one.effect for one in world.edits if not one.crashes]
    assert len(world.edits) == sum(KINDS.values())
    assert sum(effect < -1 for effect in effects) == KINDS["good"] + KINDS["heavy"]
    assert min(effects) >= -8


def test_a_good_variant_looks_worse_until_constants_are_tuned_again() -> None:
    hidden = 0
    for seed in range(5):
        world = Catalogue(seed)
        base = world.active(world.founders[0])
        tuned = world.program(base)
        for edit in world.edits:
            if edit.effect < -1 and not edit.memory:
                changed = [edit if one.slot == edit.slot else one for one in base]
                assert value(world, world.program(changed)) < value(world, tuned)
                hidden += value(world, edited(tuned, edit)) > value(world, tuned)
    assert 5 <= hidden <= 20  # of 25


def test_no_edit_no_pair_of_edits_and_no_constant_improves_on_the_best(world: Catalogue) -> None:
    rng = np.random.default_rng(1)
    sources = [edited(world.best, edit) for edit in world.edits]
    for _ in range(100):
        chosen = {one.slot: one for one in rng.choice(world.edits, 2)}
        slots = {one.slot: one for one in world.active(world.best)} | chosen
        sources.append(world.program(list(slots.values())))
    for one in constants(world.best):
        sources.append(rewrite(world.best, {one.name: one.range.near(one.value, rng)}))
    for source in sources:
        found = world.truth(source).value
        assert found is None or found > world.optimum - 0.05 * SIGMA


def test_an_edit_brings_its_constant_and_takes_that_of_the_variant_before(
    world: Catalogue,
) -> None:
    with_own = next(one for one in world.edits if one.own and not one.crashes)
    other = next(one for one in world.edits if one.slot == with_own.slot and one is not with_own)
    source = edited(world.founders[0], with_own)
    assert values(source)[with_own.own.name] == with_own.own.start
    assert with_own in world.active(source)
    assert world.truth(without(source, with_own.own.name)).reason == "crash"
    assert edited(edited(source, other), with_own) == source
    explore = CatalogueMutation(world, CHECKS)
    offer = explore._offer(individual(1, source), with_own, other)
    assert with_own.own.name not in values(offer.source)


def test_equal_edits_have_equal_diffs_whatever_the_constants(world: Catalogue) -> None:
    explore = CatalogueMutation(world, CHECKS, remembers=False)
    one = individual(1, world.founders[0])
    other = individual(2, rewrite(world.founders[0], {"WARMUP": 0.25}))
    proposals = [
        explore.propose([parent], history(parent), np.random.default_rng(3))
        for parent in (one, other)
    ]
    assert all(CHECKS.refusal(proposal.genome.source) == "" for proposal in proposals)
    assert proposals[0].changes == proposals[1].changes
    assert proposals[0].fingerprint != proposals[1].fingerprint


def test_a_memory_of_what_did_not_help_leads_to_other_edits(world: Catalogue) -> None:
    founder = individual(1, world.founders[0])
    explore = CatalogueMutation(world, CHECKS)
    known = history(founder)
    seen = []
    for number in range(2, 22):
        proposal = explore.propose([founder], known, np.random.default_rng(number))
        seen.append(proposal.changes[0].hypothesis)
        child = Individual(
            IndividualId(number),
            proposal.genome,
            (founder.id,),
            "explore",
            changes=proposal.changes,
        )
        known.standings[child.id] = Standing(child, -1.0, 0.0, 1, 0, 0)
    assert len(set(seen)) >= 17


def test_crossover_carries_a_variant_with_its_constants(world: Catalogue) -> None:
    parents = [individual(n, source) for n, source in enumerate(world.founders[:2], 1)]
    recombination = Recombination(CHECKS)
    for seed in range(5):
        proposal = recombination.propose(parents, history(*parents), np.random.default_rng(seed))
        variants = world.active(proposal.genome.source)
        own, theirs = (set(one.name for one in world.active(p.genome.source)) for p in parents)
        assert {one.name for one in variants} - own
        assert {one.name for one in variants} <= own | theirs
