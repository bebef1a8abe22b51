"""The gpu scale: BPE tokens in packed rows, at a size that takes a second or two."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import prepare

SMALL = prepare.Scale(64, 512, 4, 160)
T, V, E, N = 64, 512, 4, 160


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prepare.SCALES, "gpu", SMALL)


def prose(count: int) -> Iterator[str]:
    """Yield numbered documents of words, of many lengths, in several alphabets."""
    rng = np.random.default_rng(1)
    words = ["the", "then", "theory", "été", "λόγος", "数学", "🙂", "42", "don't", "<|begin|>"]
    for number in range(count):
        drawn = rng.choice(words, rng.integers(2, 60))
        yield f"<{number}>\n" + " ".join(drawn)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "prose.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in prose(3000)))
    return path


@pytest.fixture(scope="module")
def prepared(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(prepare.SCALES, "gpu", SMALL)
        return prepare.prepare(str(text), tmp_path_factory.mktemp("cache"), scale="gpu")


def rows(directory: Path, part: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(directory / part / "tokens.npy")
    return array


def decoder(directory: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def documents(directory: Path, part: str) -> Iterator[str]:
    """Yield what a part's rows hold between one beginning and the next, decoded."""
    tokenizer = decoder(directory)
    for row in rows(directory, part):
        for piece in np.split(row, np.flatnonzero(row == 0)):
            if len(piece):
                yield tokenizer.decode(piece.tolist())


def test_the_scales_of_one_text_lie_side_by_side(text: Path, tmp_path: Path) -> None:
    cpu, gpu = (prepare.data_dir(str(text), tmp_path, scale) for scale in ("cpu", "gpu"))
    assert cpu == prepare.data_dir(str(text), tmp_path)
    assert cpu.name.replace("-cpu-", "-gpu-") == gpu.name


def test_an_unknown_scale_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(prepare.DataError, match="no scale 'tpu': expected one of cpu, gpu"):
        prepare.prepare(str(text), tmp_path, scale="tpu")


def test_every_row_is_full_and_begins_with_a_document(prepared: Path) -> None:
    for part in ("train", *prepare.SHARDS):
        packed = rows(prepared, part)
        assert packed.dtype == np.uint16
        assert packed.shape[1] == T + 1
        assert (packed[:, 0] == 0).all()
        assert packed.max() < V


def test_the_rows_hold_the_texts_as_they_were_and_each_document_in_one_part_only(
    prepared: Path,
) -> None:
    originals = {one.strip() for one in prose(3000)}
    homes: dict[str, str] = {}
    whole = 0
    for part in ("train", *prepare.SHARDS):
        for document in documents(prepared, part):
            if document in originals:
                whole += 1
                assert homes.setdefault(document, part) == part
    assert len(homes) == whole > 1000


def test_the_settings_are_those_of_the_scale_with_the_rows_that_there_are(prepared: Path) -> None:
    found = prepare.settings(prepared)
    assert (found.sequence_length, found.vocab_size, found.evaluation_batch) == (T, V, E)
    assert found.evaluation_rows % E == 0
    assert 16 * E <= found.evaluation_rows <= N
    for shard in prepare.SHARDS:
        evaluated = prepare.evaluation_rows(prepared, shard)
        assert evaluated.shape == (found.evaluation_rows, T + 1)
        assert np.array_equal(evaluated, rows(prepared, shard))


def test_a_uniform_model_costs_the_tokens_over_their_bytes(prepared: Path) -> None:
    targets = prepare.evaluation_rows(prepared, "exam")[:, 1:]
    size = np.load(prepared / "token_bytes.npy").astype(int)[targets]
    uniform = torch.full((E, T, V), -math.log(V))
    expected = math.log2(V) * (targets != 0).sum() / size.sum()
    found = prepare.metric(lambda _: uniform, prepared, "exam")
    assert found == pytest.approx(float(expected), rel=1e-6)


def test_an_epoch_deals_every_row_once_in_an_order_of_the_seed(prepared: Path) -> None:
    train = rows(prepared, "train")
    once = prepare.batch_source(prepared, 1)(len(train))
    assert once.dtype == np.uint16
    assert sorted(map(bytes, once)) == sorted(map(bytes, train))
    assert np.array_equal(once, prepare.batch_source(prepared, 1)(len(train)))
    assert not np.array_equal(once, prepare.batch_source(prepared, 2)(len(train)))
    assert not np.array_equal(once, train)
