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


def scanned(lengths: list[int], width: int, waiting_documents: int) -> list[list[tuple[int, int]]]:
    """Return (document, tokens taken) for each full row, found by looking at all that wait."""
    queue, waiting = list(enumerate(lengths)), list[tuple[int, int]]()
    full: list[list[tuple[int, int]]] = []
    row: list[tuple[int, int]] = []
    while True:
        while queue and len(waiting) < waiting_documents:
            waiting.append(queue.pop(0))
        if not waiting:
            return full
        room = width - sum(taken for _, taken in row)
        fitting = [one for one in waiting if one[1] <= room]
        best = max(fitting, key=lambda one: one[1]) if fitting else min(waiting, key=lambda o: o[1])
        waiting.remove(best)
        row.append((best[0], min(best[1], room)))
        if sum(taken for _, taken in row) == width:
            full.append(row)
            row = []


@pytest.mark.parametrize("waiting_documents", [1, 7, 40, 1000])
def test_a_row_takes_the_longest_document_that_fits_and_else_crops_the_shortest(
    waiting_documents: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "WAITING_DOCUMENTS", waiting_documents)
    lengths = [int(length) for length in np.random.default_rng(2).integers(1, 60, 300)]
    # Of each document the tokens say which it is and how far into it they lie.
    texts = (np.arange(length) + 64 * number for number, length in enumerate(lengths))
    found = list(prepare._rows((one.astype(np.uint16) for one in texts), 50))
    expected = scanned(lengths, 50, waiting_documents)
    assert len(found) == len(expected) > 50
    for row, pieces in zip(found, expected, strict=True):
        tokens = [64 * number + place for number, taken in pieces for place in range(taken)]
        assert row.tolist() == tokens


def test_a_token_counts_the_bytes_that_it_stands_for(prepared: Path) -> None:
    sizes, tokenizer = np.load(prepared / "token_bytes.npy"), decoder(prepared)
    learned = tokenizer.get_vocab_size()  # a small text teaches fewer than V
    assert sizes.shape == (V,)
    assert sizes[0] == 0
    assert (sizes[1:257] == 1).all()  # the lone bytes, those above 127 included
    assert (sizes[257:learned] > 1).all()
    assert (sizes[learned:] == 0).all()
    originals = {one.strip() for one in prose(3000)}
    checked = 0
    for row in rows(prepared, "train"):
        for piece in np.split(row, np.flatnonzero(row == 0)):
            text = tokenizer.decode(piece.tolist())
            if text in originals:
                checked += 1
                assert sizes[piece].sum() == len(text.encode())
    assert checked > 300


def test_no_token_crosses_the_bounds_of_a_word_and_two_digits_at_most_are_one(
    prepared: Path,
) -> None:
    vocabulary = decoder(prepared).get_vocab()
    assert {"Ġthe", "Ġtheory", "42", "Ġdon"} <= set(vocabulary)
    assert not [token for token in vocabulary if token.isdigit() and len(token) > 2]
    assert not [token for token in vocabulary if "Ġ" in token[1:] and token.strip("Ġ")]


def test_equal_text_gives_equal_arrays(text: Path, prepared: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.jsonl"
    again.write_text(text.read_text())
    directory = prepare.prepare(str(again), tmp_path / "cache", scale="gpu")
    assert prepare.data_sha256(directory) == prepare.data_sha256(prepared)
    prepare.verify(directory)


def test_the_shards_of_a_longer_text_stop_at_the_rows_of_the_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path
) -> None:
    monkeypatch.setitem(prepare.SCALES, "gpu", prepare.Scale(T, V, E, 16 * E))
    directory = prepare.prepare(str(text), tmp_path, scale="gpu")
    assert prepare.settings(directory).evaluation_rows == 16 * E
    for shard in prepare.SHARDS:
        assert len(rows(directory, shard)) == 16 * E


def test_too_little_text_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_text("\n".join(prose(300)))
    needed = 5 * 8 * 16 * E * T
    with pytest.raises(prepare.DataError, match=f"need about {needed:,}. Add text."):
        prepare.prepare(str(tmp_path / "small.txt"), tmp_path / "cache", scale="gpu")


def test_text_that_few_tokens_spell_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    lines = (json.dumps({"text": f"{number} " + "a" * 500}) + "\n" for number in range(1000))
    (tmp_path / "long.jsonl").write_text("".join(lines))
    with pytest.raises(prepare.DataError, match=r"each part needs 64. Add text, [\d.]+ times"):
        prepare.prepare(str(tmp_path / "long.jsonl"), tmp_path / "cache", scale="gpu")
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {".lock"}


def test_the_command_line_prepares_the_scale_that_is_asked_for(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(text), "--scale", "gpu", "--cache", str(tmp_path), "--verify"]
    assert prepare.main(arguments) == 0
    directory = prepare.data_dir(str(text), tmp_path, "gpu")
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == str(directory)
    assert said[0].split() == ["train", f"{rows(directory, 'train').size:,}", "tokens"]
