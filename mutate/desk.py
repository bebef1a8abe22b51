"""Where questions to language models pass: which model, how many at once, and whether at all.

A model that does not answer rests for a while; one that is gone is not asked again, nor is one
for which the purse has no money left. Each such change is told once; the search goes on with what
is left.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mutate.bandit import USUAL, credited
from mutate.llm import CUT, LLM, Answer, NotAsked, Question, Scope, Unavailable
from mutate.models import Model
from mutate.spending import Purse, Spent

LEAST_ANSWER = 2_048
LEAST_THOUGHT = 4_000
"""Fewer tokens than this are no answer, of a model that thinks the second: a purse that cannot pay
for them is empty."""
REFUSALS_IN_A_ROW = 5
BAD_REQUESTS_IN_A_ROW = 3
REST_S = 15.0
LONGEST_REST_S = 600.0
FRAME_TOKENS = 64
"""Around each turn, where the server adds its own marks."""
_DEAD = float("inf")

Teller = Callable[[str], None]


class Gate:
    """How many calls run at once: half as many after each overload, slowly more again.

    Source: additive increase, multiplicative decrease; Chiu and Jain (1989).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = float(most)
        self._inside = 0
        self._warned = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def width(self) -> int:
        """How many calls it lets through at once."""
        return max(int(self._width), 1)

    @property
    def inside(self) -> int:
        """How many calls it has let through that have not ended."""
        return self._inside

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._inside < self.width)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._warned = max(self._warned - 1, 0)
            self._changed.notify_all()

    def narrow(self) -> None:
        """The server is busy: halve, from what was really in use.

        The calls inside all meet the same overload, each perhaps several times: it counts once,
        until as many have left.
        """
        with self._changed:
            if self._warned == 0:
                self._width = max(min(self._width, float(self._inside)) / 2, 1.0)
                self._warned = self._inside

    def widen(self) -> None:
        """A call went well: one more at once after as many calls as run at once now."""
        with self._changed:
            self._width = min(self._width + 1 / self._width, float(self._most))
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody in who waits, to be told that it is over."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Desk:
    """Asks the models of a run. Used from several threads.

    Args:
        models: with their weights, at least one.
        adapters: who asks a model, by its name.
        purse: what all of them may spend.
        tell: hears, once each, what a person should know. Called from any thread.
        gates: of the same adapters, which narrow them when they meet an overload.
        clock: seconds that do not go back.
    """

    def __init__(
        self,
        models: Sequence[Model],
        adapters: Mapping[str, LLM],
        purse: Purse,
        tell: Teller,
        gates: Mapping[str, Gate],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = tuple(models)
        self._adapters = adapters
        self._purse = purse
        self._tell = tell
        self._gates = gates
        self._clock = clock
        self._rests: dict[str, float] = {}
        self._troubles: Counter[tuple[str, str]] = Counter()
        self._dearest: dict[str, float] = {}
        self._told: set[str] = set()
        self._closed = False
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()

    def remember(self, dearest: Mapping[str, float]) -> None:
        """Take over what the dearest call of each model has cost so far, in USD.

        It is what a call reserves whose price shows in its answer only.
        """
        self._dearest |= dearest

    @property
    def ready(self) -> bool:
        """Whether asking is of any use now."""
        return bool(self._awake(()))

    @property
    def under_way(self) -> int:
        """How many calls are under way, those included that wait for the purse."""
        return sum(gate.inside for gate in set(self._gates.values()))  # one server, one gate

    def _awake(self, without: Collection[str]) -> list[Model]:
        with self._lock:
            if self._closed:
                return []
            return [m for m in self._models if m.name not in without and not self._resting(m)]

    def _resting(self, model: Model) -> bool:
        return self._rests.get(model.name, 0.0) > self._clock()

    def pick(
        self,
        rng: np.random.Generator,
        without: Collection[str] = (),
        worths: Mapping[str, float] | None = None,
    ) -> Model | None:
        """Draw a model among those that answer at present, None where none does.

        Args:
            rng: the proposal's own stream.
            without: names of models that are not wanted.
            worths: credit of each, which moves its weight; None: weights alone count.
        """
        awake = self._awake(without)
        if not awake:
            return None
        total = sum(model.weight for model in awake)
        found = [(worths or {}).get(model.name, USUAL) for model in awake]
        shares = np.array(credited([model.weight / total for model in awake], found))
        return awake[int(rng.choice(len(awake), p=shares / shares.sum()))]

    def ask(self, question: Question) -> Answer:
        """Return the answer, within the purse.

        Waits while only calls under way fill that, and while the desk is held.

        Raises:
            Unavailable: there is none; whether the model rests from now on is settled. NotAsked:
                nor was there a call.
        """
        model = question.model
        with self._gates[model.name]:
            self._refuse_if_over(model)
            question, most = self._within_means(question)
            spent = Spent()
            try:
                self._open.wait()
                self._refuse_if_over(model)
                answer = self._adapters[model.name].ask(question)
                spent = Spent(answer.cost_usd, answer.usage.read + answer.usage.out)
            except Unavailable as trouble:
                self._note_trouble(model, trouble)
                raise
            finally:
                self._purse.settle(most, spent)
        if answer.stop_reason == CUT:
            self._note_cut(model)
        else:
            self._gates[model.name].widen()
            self._note_answer(model, answer)
        return answer

    def hold(self, held: bool) -> None:
        """Let no call begin until it is told otherwise; those under way end as they would."""
        if held and not self._closed:
            self._open.clear()
        else:
            self._open.set()

    def close(self) -> None:
        """Ask nothing more: what waits at the gate or for the purse is told so."""
        self._closed = True
        self._open.set()
        for gate in self._gates.values():
            gate.close()
        self._purse.close()

    def _refuse_if_over(self, model: Model) -> None:
        if self._closed:
            raise NotAsked("stopped", "the run has ended", Scope.PROVIDER)
        if self._rests.get(model.name, 0.0) == _DEAD:
            raise NotAsked("gone", f"{model.name} is asked no more", Scope.MODEL)

    def _within_means(self, question: Question) -> tuple[Question, Spent]:
        """Return the question with an answer as long as the purse allows, and what is reserved."""
        length = question.max_tokens
        least = min(least_answer(question.model), length)
        while length >= least:
            most = most_of(question, length)
            if most.usd == 0.0:
                most = Spent(self._dearest.get(question.model.name, 0.0), most.tokens)
            if self._purse.reserve(most):
                return replace(question, max_tokens=length), most
            length //= 2
        self._refuse_if_over(question.model)
        if len(question.turns) == 1:  # a long conversation may be too dear where a new one is not
            self._run_dry(question.model, most_of(question, least))
        raise NotAsked("spent", "the rest of the spending cap does not pay for another call")

    def _run_dry(self, model: Model, most: Spent) -> None:
        spent, limit = self._purse.spent, f"{self._purse.limit_usd:.2f} USD"
        if self._purse.limit_tokens is not None:
            limit += f" or {self._purse.limit_tokens:,} tokens"
        self._give_up(
            [model],
            f"the rest of the spending cap of {limit} does not pay for another call "
            f"({spent.usd:.4f} USD, {spent.tokens:,} tokens spent; the next might need "
            f"{most.usd:.4f} USD, {most.tokens:,} tokens); --cost or --tokens raise it",
        )

    def _note_answer(self, model: Model, answer: Answer) -> None:
        name, refused = model.name, answer.stop_reason == "refusal"
        with self._lock:
            self._dearest[name] = max(self._dearest.get(name, 0.0), answer.cost_usd)
            if self._resting(model):
                return  # it was asked before it was sent to rest
            for kind in ("silence", "bad_request", CUT):
                self._troubles[name, kind] = 0
            refusals = self._troubles[name, "refusal"] + 1 if refused else 0
            self._troubles[name, "refusal"] = refusals
            recovered = name in self._told and not refused
            if recovered:
                self._told.discard(name)
            weary = refusals >= REFUSALS_IN_A_ROW
            if weary:
                self._extend_rest(model, LONGEST_REST_S)
        if recovered:
            self._tell(f"{name} answers again")
        if weary:
            why = f"it has refused {refusals} times in a row"
            why += f", the last time for {answer.category}" if answer.category else ""
            self._tell_of_rest(model, LONGEST_REST_S, why)

    def _note_trouble(self, model: Model, trouble: Unavailable) -> None:
        if self._closed:
            return  # it was told to give up
        if trouble.scope is Scope.PROVIDER:
            mine = self._adapters[model.name]
            gone = [one for one in self._models if self._adapters[one.name] is mine]
            self._give_up(gone, str(trouble))
        elif trouble.scope is Scope.MODEL:
            self._give_up([model], str(trouble))
        elif trouble.reason == "bad_request":
            if self._count(model, "bad_request") >= BAD_REQUESTS_IN_A_ROW:
                self._give_up([model], str(trouble))
        else:
            self._note_silence(model, trouble)

    def _note_cut(self, model: Model) -> None:
        """Take one answer that ends on its way as chance, a second in a row as silence."""
        if not self._closed and self._count(model, CUT) > 1:
            self._note_silence(model, Unavailable(CUT, "its answers are cut off on the way"))

    def _note_silence(self, model: Model, trouble: Unavailable) -> None:
        """Let it rest, each time twice as long; calls that were under way then do not count."""
        if trouble.reason == "timeout":
            self._gates[model.name].narrow()
        with self._lock:
            rest_s = trouble.retry_after_s or 0.0
            if not self._resting(model):
                self._troubles[model.name, "silence"] += 1
                doublings = min(self._troubles[model.name, "silence"] - 1, 10)
                rest_s = max(rest_s, min(REST_S * 2**doublings, LONGEST_REST_S))
            self._extend_rest(model, rest_s)
            gone = self._rests[model.name] == _DEAD
        if rest_s and not gone:
            self._tell_of_rest(model, rest_s, str(trouble))

    def _extend_rest(self, model: Model, rest_s: float) -> None:
        known = self._rests.get(model.name, 0.0)
        self._rests[model.name] = max(known, self._clock() + rest_s)

    def _tell_of_rest(self, model: Model, rest_s: float, why: str) -> None:
        self._tell_once(model.name, f"{model.name} rests, at first for {rest_s:.0f} s: {why}")

    def _count(self, model: Model, kind: str) -> int:
        with self._lock:
            self._troubles[model.name, kind] += 1
            return self._troubles[model.name, kind]

    def _give_up(self, models: Sequence[Model], why: str) -> None:
        with self._lock:
            for model in models:
                self._rests[model.name] = _DEAD
            left = any(self._rests.get(one.name, 0.0) < _DEAD for one in self._models)
        names = ", ".join(model.name for model in models)
        instead = "the other models go on" if left else "the keyless operators go on alone"
        self._tell_once(f"gone {names}", f"{names} is asked no more: {why}; {instead}")

    def _tell_once(self, key: str, message: str) -> None:
        with self._lock:
            known = key in self._told
            self._told.add(key)
        if not known:
            self._tell(message)


def least_answer(model: Model) -> int:
    """Return how many tokens a purse must be able to pay for, for the model to be asked."""
    return LEAST_THOUGHT if model.effort else LEAST_ANSWER


def most_of(question: Question, length: int) -> Spent:
    """Return the most that a call can cost, its answer `length` tokens long.

    A token stands for a byte at least. An estimate would be closer, and too low for the odd text:
    what is reserved too much comes back when the call ends.
    """
    read = len(question.text.encode(errors="replace")) + FRAME_TOKENS * (1 + len(question.turns))
    model = question.model
    dearest = max(1.0, model.cache_write if model.caching else 1.0)
    usd = (read * dearest * model.input_usd + length * model.output_usd) / 1e6
    return Spent(usd, read + length)
