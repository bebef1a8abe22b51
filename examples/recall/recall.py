"""The evaluator of a model task of its own: how well does a model recall what it has read?

A row names eight keys with a value each, in random order, then asks for all of them in another
order. The score is the bits that a model needs for an answer: 4 where it guesses, 0 where it knows.
Source: Arora et al. 2023, "Zoology: Measuring and Improving Recall in Efficient Language Models",
section 3.

This file says what its rows and its metric are. What programs import, `prepare.start()` and what
that returns, comes from the default task's `prepare.py`, because this file imports it.
"""

import hashlib
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prepare import MINIMAL_PROGRAM, DataError, Settings

__all__ = ["MINIMAL_PROGRAM"]

SOURCE = "pairs"
SHARDS = ("selection", "confirmation", "exam")
KEYS, VALUES, PAIRS = 16, 16, 8
BEGIN = KEYS + VALUES  # the last token; keys come first, values follow
SIZES = Settings(sequence_length=4 * PAIRS, vocab_size=BEGIN + 1, evaluation_batch=64)
EVALUATION_ROWS = 1024
FIRST_ANSWER = 2 * PAIRS + 2  # its place in a row; the others follow, every second token


def rows_from(rng: np.random.Generator, B: int) -> npt.NDArray[np.uint8]:
    """Return (B, T + 1) tokens: the first one, pairs of key and value, questions with answers."""
    keys = rng.permuted(np.tile(np.arange(KEYS), (B, 1)), axis=1)[:, :PAIRS]
    values = KEYS + rng.integers(VALUES, size=(B, PAIRS))
    order = rng.permuted(np.tile(np.arange(PAIRS), (B, 1)), axis=1)
    told = np.stack((keys, values), axis=2)
    asked = np.take_along_axis(told, order[:, :, None], axis=1)
    first = np.full((B, 1), BEGIN)
    return np.hstack((first, told.reshape(B, -1), asked.reshape(B, -1))).astype(np.uint8)


def data_dir(source: str, cache: Path, scale: str = "cpu") -> Path:
    """Return where the rows lie, drawn or not."""
    if source != SOURCE:
        raise DataError(f"no data {source!r}: this task draws its rows itself. Leave --data out.")
    return cache / f"recall-{SOURCE}-{KEYS}-{VALUES}-{PAIRS}"  # other sizes are other data


def prepare(source: str, cache: Path, progress: bool = True, scale: str = "cpu") -> Path:
    """Draw the rows that score, by chance: no program can draw them again and learn them."""
    directory = data_dir(source, cache, scale)
    if directory.is_dir():
        return directory
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made, digest = Path(folder) / "made", hashlib.sha256()
        (made / "train").mkdir(parents=True)  # stays empty: these rows are drawn without end
        for shard in SHARDS:
            rows = rows_from(np.random.default_rng(), EVALUATION_ROWS)
            (made / shard).mkdir()
            np.save(made / shard / "rows.npy", rows)
            digest.update(rows.tobytes())
        (made / "sha256").write_text(digest.hexdigest())
        made.rename(directory)
    return directory


def data_sha256(directory: Path) -> str:
    """Return the identity of the rows that score."""
    return (directory / "sha256").read_text()


def settings(directory: Path) -> Settings:
    """Return the sizes, which are the same wherever the rows were drawn."""
    return SIZES


def describe(directory: Path) -> str:
    """Return what language models are told of the rows."""
    return (
        f"A row begins with token {BEGIN}, then come {PAIRS} pairs of a key (0..{KEYS - 1}, none "
        f"twice) and its value ({KEYS}..{BEGIN - 1}, drawn evenly), then the same pairs in another "
        "order. Only the values of these count, which can be looked up among the former; the rest "
        "is chance. Training rows are drawn without end."
    )


def batch_source(directory: Path, seed: int) -> Callable[[int], npt.NDArray[Any]]:
    """Return the stream of training rows: B -> (B, T + 1), the same for the same seed."""
    rng = np.random.default_rng(seed)
    return lambda B: rows_from(rng, B)


def evaluation_rows(directory: Path, shard: str) -> npt.NDArray[Any]:
    """Return the rows that score a model: (N, T + 1), always the same."""
    return np.asarray(np.load(directory / shard / "rows.npy"))


def metric(log_probs: Callable[[torch.Tensor], torch.Tensor], directory: Path, shard: str) -> float:
    """Return bits per answer: the code length of the values that are asked for."""
    rows, E = evaluation_rows(directory, shard).astype(np.int64), SIZES.evaluation_batch
    nats = 0.0
    for batch in torch.from_numpy(rows).split(E):  # (E, T + 1)
        log_p = log_probs(batch[:, :-1].clone()).cpu().double()  # (E, T, V)
        answers = batch[:, FIRST_ANSWER::2]  # (E, PAIRS)
        asked = log_p[:, FIRST_ANSWER - 1 :: 2]  # told by what stands before them
        nats -= float(asked.gather(2, answers.unsqueeze(2)).sum())
    return nats / math.log(2) / (len(rows) * PAIRS)
