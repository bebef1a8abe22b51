"""Every peek is found in proportion to its worth; the bound that is stated holds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evaluate.probes import (
    MORE_PROBES,
    PROBES,
    WHOLE_ROWS,
    Findings,
    Probed,
    RefusedError,
    _draw,
)
from evaluate.surprise import lead_nats, trigram_log_probs

VOCAB, LENGTH, BATCH, LAG = 32, 64, 16, 3


def text(rows: int = 512, seed: int = 0) -> torch.Tensor:
    """Rows (N, T) of a language in which a token depends on the third one before it."""
    random = np.random.default_rng(seed)
    table = random.dirichlet(np.full(VOCAB, 0.3), VOCAB).cumsum(1)
    tokens = np.zeros((rows, LENGTH), np.int64)
    tokens[:, :LAG] = random.integers(0, VOCAB, (rows, LAG))
    for t in range(LAG, LENGTH):
        drawn = random.random((rows, 1))
        tokens[:, t] = (table[tokens[:, t - LAG]] < drawn).sum(1).clip(max=VOCAB - 1)
    return torch.from_numpy(tokens)


ROWS = text()


class Counting:
    """An honest model that knows the language: a count of trigrams does not."""

    def __init__(self) -> None:
        pairs = torch.zeros(VOCAB, VOCAB)
        pairs.index_put_((ROWS[:, :-LAG], ROWS[:, LAG:]), torch.tensor(1.0), accumulate=True)
        self.logits = (pairs + 0.1).log()

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.logits[F.pad(tokens[:, : 1 - LAG], (LAG - 1, 0))]


class Thief(Counting):
    """Looks at the next token at a share of the places where its own guess is bad."""

    def __init__(self, share: float, hint: float = 20.0, bad: float = 0.0) -> None:
        super().__init__()
        self.share, self.hint, self.bad = share, hint, bad

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = super().__call__(tokens)
        following = tokens.roll(-1, 1)[..., None]
        lost = -torch.log_softmax(logits, -1).gather(2, following)[..., 0]
        one, two = (F.pad(tokens, (lag, 0))[:, :-lag] for lag in (1, 2))
        mark = (tokens * 7919 + one * 104_729 + two * 611_953) % 9_973
        stolen = (lost > self.bad) & (mark < 9_973 * self.share)
        stolen[:, -1] = False
        return logits.scatter_add(2, following, self.hint * stolen[..., None].float())

    def worth(self) -> float:
        """Nats per token that the theft gains over the honest model."""
        honest, stolen = (_said(model).mean().item() for model in (Counting(), self))
        return stolen - honest


def _said(model: Counting) -> torch.Tensor:
    log_probs = torch.log_softmax(model(ROWS), -1)
    return log_probs[:, :-1].gather(2, ROWS[:, 1:, None])[..., 0]


def read(model: Counting, low_precision: bool = False) -> Probed:
    """Score all rows in batches, as a metric does."""
    probed = Probed(model, VOCAB, "cpu", low_precision)
    for first in range(0, len(ROWS), BATCH):
        probed(ROWS[first : first + BATCH])
    return probed


def found(model: Counting, low_precision: bool = False) -> bool:
    try:
        read(model, low_precision).prove()
    except RefusedError as refusal:
        assert refusal.args[0] == "not_causal"
        return True
    return False


def test_an_honest_model_raises_no_alarm_and_its_proof_says_what_was_looked_at() -> None:
    for _ in range(20):
        proof = read(Counting()).prove()
    assert proof.cuts == PROBES * len(ROWS)
    assert proof.forwards == ((1 + PROBES) * len(ROWS) + WHOLE_ROWS) // BATCH


def test_where_there_is_no_lead_at_all_cuts_are_drawn_evenly() -> None:
    places, weights = _draw(np.zeros(100), 10_000, np.random.default_rng(0))
    assert (np.bincount(places, minlength=100) > 50).all()  # 100 each
    assert np.allclose(weights, 1.0)


def worth_of(target: float) -> Thief:
    """The smallest theft that gains at least `target` nats per token."""
    for share in np.geomspace(1e-4, 1.0, 100):
        thief = Thief(float(share))
        if thief.worth() >= target:
            return thief
    raise AssertionError("no theft gains so much")


def test_a_leak_of_the_stated_size_is_found_nearly_always_wherever_it_hides() -> None:
    stated = read(Counting()).prove().detectable_nats
    thief = worth_of(stated)
    assert sum(found(thief) for _ in range(40)) >= 37  # 99% of 40 is 39.6
    assert 0 < sum(found(worth_of(stated / 4)) for _ in range(30)) < 30  # smaller ones may pass


def test_the_bound_falls_with_the_number_of_rows() -> None:
    few = Probed(Counting(), VOCAB, "cpu")
    for first in range(0, 128, BATCH):
        few(ROWS[first : first + BATCH])
    assert few.prove().detectable_nats > 2 * read(Counting()).prove().detectable_nats


def rounding(tokens: torch.Tensor) -> torch.Tensor:
    """Small differences that hang on the whole row, as sums in low precision may."""
    noise = torch.sin(tokens.sum(1, keepdim=True) * 17.0 + torch.arange(LENGTH) * 3.0)
    return 0.01 * noise[..., None] * torch.cos(torch.arange(VOCAB) * 5.0)


class Rounded(Counting):
    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().__call__(tokens) + rounding(tokens)


class RoundedThief(Thief):
    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().__call__(tokens) + rounding(tokens)


def test_rounding_is_told_from_a_leak_in_low_precision_and_costs_more_probes() -> None:
    proof = read(Rounded(), low_precision=True).prove()
    assert proof.cuts == (1 + MORE_PROBES) * PROBES * len(ROWS)
    assert proof.detectable_nats < 0.02
    assert found(Rounded())  # in full precision nothing excuses it


def test_low_precision_that_repeats_to_the_last_bit_is_proven_as_strictly_as_any_other() -> None:
    low, full = read(Counting(), low_precision=True).prove(), read(Counting()).prove()
    assert low.cuts == full.cuts
    assert low.detectable_nats == pytest.approx(full.detectable_nats)


@pytest.mark.parametrize("thief", [Thief, RoundedThief])
def test_a_faint_leak_below_a_wide_tolerance_is_found_by_its_mean(thief: type[Thief]) -> None:
    assert found(thief(1.0, hint=0.03), low_precision=True)


class Farsighted(Counting):
    """Prefers the token that comes two places later."""

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = super().__call__(tokens).clone()
        later = tokens.roll(-2, 1)[:, :-2, None]
        logits[:, :-2] = logits[:, :-2].scatter_add(2, later, torch.ones(later.shape))
        return logits


def test_a_look_beyond_the_next_token_is_found() -> None:
    assert found(Farsighted())


def test_where_counting_foretells_a_token_there_is_nothing_to_steal() -> None:
    counted = trigram_log_probs(ROWS, VOCAB)
    assert lead_nats(ROWS, counted, VOCAB).max().item() == 0.0
    said = _said(Counting())
    assert (lead_nats(ROWS, said, VOCAB) <= (said - counted).clamp(min=0)).all()


@pytest.mark.parametrize("vocab", [VOCAB, 50_000])
def test_counts_are_probabilities_and_beat_chance(vocab: int) -> None:
    counted = trigram_log_probs(ROWS, vocab)
    assert counted.shape == (len(ROWS), LENGTH - 1)
    assert torch.isfinite(counted).all() and (counted <= 0).all()
    assert counted.mean().item() > -np.log(VOCAB) - 0.4  # they know nothing of this language


def test_one_wild_cut_does_not_hide_what_the_others_gain() -> None:
    changes, gains = torch.full((2_000,), 0.01), torch.full((2_000,), 0.01)
    changes[0], gains[0] = 1e4, 1e4
    found = Findings(changes, gains.double())
    assert found.leaking(0.05) == 1
    assert found.biased(0.05)
    assert not Findings(changes, gains.double() * (-1.0) ** torch.arange(2_000)).biased(0.05)


class Neighbour(Counting):
    """Honest but at the last position of a row, where it says what the next row begins with."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = super().__call__(tokens)
        following = tokens[:, 0].roll(-1)
        mark = tokens[:, 5:9].sum(1) % 100 < 100 * self.share
        logits[:, -1] += 20.0 * mark[:, None] * F.one_hot(following, VOCAB)
        return logits


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_what_is_said_at_the_end_of_a_row_does_not_depend_on_the_next_one(share: float) -> None:
    with pytest.raises(RefusedError) as refused:
        read(Neighbour(share)).prove()
    assert refused.value.args[0] == "rows_depend"


def test_a_forward_that_works_too_long_is_refused_once_that_is_sure() -> None:
    probed = Probed(Counting(), VOCAB, "cpu", forward_limit_s=1e-7)
    with pytest.raises(RefusedError) as refused:
        for first in range(0, len(ROWS), BATCH):
            probed(ROWS[first : first + BATCH])
    assert refused.value.args[0] == "forward_limit"
    assert probed.forward_s > 1e-7
