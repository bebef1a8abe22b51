"""The models that are known, with their prices: one table, which a file may extend or override."""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from population.errors import RunError


@dataclass(frozen=True, slots=True)
class Model:
    """One model.

    Attributes:
        name: as its server knows it; `claude-code:NAME` asks the Claude Code program instead.
        input_usd, output_usd: per million tokens.
        cache_read, cache_write: price of cached input, as shares of `input_usd`.
        caching, effort: whether its server knows cache markers and `output_config.effort`.
        whole_file: it is asked for whole files, since its edits do not apply often enough.
        weight: how often it is asked, compared with the run's other models.
        prompt_tokens: what a prompt may have, if the program in it is not longer.
        answer_tokens: what an answer may have at most, thinking included.
        at_once: how many of its calls may run at once, before any sign of overload; all models
            behind one server share the largest of theirs.
    """

    name: str
    input_usd: float = 0.0
    output_usd: float = 0.0
    cache_read: float = 0.1
    cache_write: float = 2.0
    caching: bool = False
    effort: bool = False
    whole_file: bool = True
    weight: float = 1.0
    prompt_tokens: int = 12_000
    answer_tokens: int = 32_000
    at_once: int = 2

    def cost_usd(self, fresh: int, written: int, cached: int, out: int) -> float:
        """Return the price of a call from its tokens, as `llm.Usage` counts them."""
        read = fresh + written * self.cache_write + cached * self.cache_read
        return (read * self.input_usd + out * self.output_usd) / 1e6


def _claude(name: str, input_usd: float, output_usd: float, cached_usd: float) -> Model:
    return Model(
        name,
        input_usd,
        output_usd,
        cache_read=cached_usd / input_usd,
        caching=True,
        effort=True,
        whole_file=False,
        at_once=64,
    )


DEFAULT = "claude-opus-5-5"
KNOWN: tuple[Model, ...] = (
    _claude("claude-fable-5-2", 8.0, 40.0, 0.20),
    _claude("claude-opus-5-5", 4.0, 20.0, 0.20),
    _claude("claude-sonnet-5-5", 2.0, 10.0, 0.10),
    _claude("claude-haiku-5-5", 0.10, 0.50, 0.01),
)
"""USD per million tokens of input, output and cached input as published in November 2026; cache
entries live an hour. Haiku costs five times as much for prompts of more than 100,000 tokens, which
programs of the usual limit do not fill."""

_MENTION = re.compile(r"(?P<name>[^=]+)(?:=(?P<weight>.*))?")


def load_models(file: Path | None) -> dict[str, Model]:
    """Return the known models by name, extended and overridden by a TOML file.

    Args:
        file: one table per model, named as its server knows it, with any fields of `Model`:
            `["qwen3-coder:30b"]`, `whole_file = false`. None: the built-in table alone.

    Raises:
        RunError: it cannot be read, or a value is none of a model.
    """
    models = {model.name: model for model in KNOWN}
    if file is None:
        return models
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RunError(
            f"the table of models {file} cannot be read ({error}); correct it"
        ) from error
    for name, values in found.items():
        models[name] = _overridden(models.get(name, Model(name)), values, file)
    return models


def _overridden(model: Model, values: object, file: Path) -> Model:
    if not isinstance(values, dict):
        raise RunError(f'{file}: expected a table ["{model.name}"], got {values!r}')
    known = {field.name for field in fields(Model)} - {"name"}
    for key, value in values.items():
        if key not in known:
            raise RunError(
                f"{file}: {model.name} has no {key!r}; known are {', '.join(sorted(known))}"
            )
        _check(model, key, value, file)
    checked: Mapping[str, Any] = values
    return replace(model, **checked)


def _check(model: Model, key: str, value: object, file: Path) -> None:
    flag = isinstance(getattr(model, key), bool)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if flag and not isinstance(value, bool):
        raise RunError(f"{file}: {key} of {model.name} must be true or false, got {value!r}")
    if not flag and not (number and math.isfinite(float(str(value))) and float(str(value)) >= 0):
        raise RunError(f"{file}: {key} of {model.name} must be a number from 0, got {value!r}")
    if (key.endswith("_tokens") or key == "at_once") and (type(value) is not int or value < 1):
        raise RunError(f"{file}: {key} of {model.name} must be a whole number from 1, got {value}")


def choose_models(mentions: Sequence[str], models: Mapping[str, Model]) -> tuple[Model, ...]:
    """Return the models that a run asks, with their weights.

    Args:
        mentions: `NAME` or `NAME=WEIGHT`; an unknown name is a model without prices, as local
            servers have them.
        models: by name, as `load_models` returns them.

    Raises:
        RunError: a weight is not above 0, or a model is named twice.
    """
    chosen: dict[str, Model] = {}
    for mention in mentions:
        match = _MENTION.fullmatch(mention.strip())
        if match is None:
            raise RunError(f"--llm names a model, like {DEFAULT} or {DEFAULT}=2; got {mention!r}")
        name = match["name"].strip()
        if name in chosen:
            raise RunError(f"--llm names {name} twice; give it a weight instead, {name}=2")
        model = models.get(name, Model(name))
        try:
            weight = model.weight if match["weight"] is None else float(match["weight"])
        except ValueError:
            weight = 0.0
        if not 0 < weight < math.inf:
            raise RunError(f"the weight of {name} must be a number above 0; got --llm {mention}")
        chosen[name] = replace(model, weight=weight)
    return tuple(chosen.values())
