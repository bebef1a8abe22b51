"""What an autoresearch checkout's train.py imports under `bench/gpu_reference.py`, in its process.

Rows of our `batch_source`, the bits per byte of the rows that our search selects by, and attention
of torch's own in place of the kernel that the program would download.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from evaluate.evaluator import Evaluator, load

EVALUATOR = Path(__file__).resolve().parent.parent / "prepare.py"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """All that a program asks of a tokenizer: how many tokens there are."""

    vocab_size: int

    def from_directory(self) -> "Tokenizer":
        """Return itself: the program calls this on what it takes for the class."""
        return self

    def get_vocab_size(self) -> int:
        """Return V."""
        return self.vocab_size


class Offer:
    """What autoresearch's prepare.py offers to a program, made of our prepared data.

    Args:
        data: a folder of prepared data.
        seed: of the order of the training rows.

    Raises:
        prepare.DataError: there is no prepared data in the folder.
    """

    def __init__(self, data: Path, seed: int) -> None:
        self._evaluator: Evaluator = load(EVALUATOR)  # `prepare` itself is the shim
        self._data, self._seed = data, seed
        settings = self._evaluator.settings(data)
        self.sequence_length = settings.sequence_length
        self.tokenizer = Tokenizer(settings.vocab_size)

    def make_dataloader(
        self, tokenizer: Tokenizer, B: int, T: int, split: str
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Yield `(x, y, epoch)` without end: int64 (B, T) twice on the device, epochs from 1.

        Each batch has pinned memory of its own until its copy is done, so that a program that
        runs ahead of its GPU never overwrites rows that are still on their way.

        Raises:
            ValueError: `T` is not the data's, or `split` is not `train`.
        """
        if (T, split) != (self.sequence_length, "train"):
            raise ValueError(
                f"expected T = {self.sequence_length} and split 'train', got {T} and {split!r}"
            )
        batch = self._evaluator.batch_source(self._data, self._seed)
        tokens = np.load(self._data / "train" / "tokens.npy", mmap_mode="r")
        rows = len(tokens) if tokens.ndim == 2 else len(tokens) // T  # packed, or cut from a text
        return _batches(batch, B, rows)

    @torch.no_grad()
    def evaluate_bpb(
        self, model: Callable[..., torch.Tensor], tokenizer: Tokenizer, batch_size: int
    ) -> float:
        """Return bits per byte of the shard `selection`, as our own `metric` counts them.

        Args:
            model: `model(x, y, reduction="none")`: int64 (B, T) twice -> nats, B * T of them.
            tokenizer: ignored.
            batch_size: B of every call, the last one included: its missing rows are zeros, which
                do not count. Another shape would be compiled anew.
        """
        rows = self._evaluator.evaluation_rows(self._data, "selection")  # (N, T + 1)
        sizes = np.load(self._data / "token_bytes.npy").astype(np.int64)
        token_bytes = torch.from_numpy(sizes).to(_device())
        nats, counted_bytes = 0.0, 0
        for start in range(0, len(rows), batch_size):
            taken = rows[start : start + batch_size]
            padded = np.zeros((batch_size, rows.shape[1]), rows.dtype)
            padded[: len(taken)] = taken
            x, y = _on_device(padded)
            loss = model(x, y, reduction="none").view(batch_size, -1)[: len(taken)]  # (B, T)
            size = token_bytes[y[: len(taken)]]
            nats += float(loss.double()[size > 0].sum())
            counted_bytes += int(size.sum())
        return nats / math.log(2) / counted_bytes


def _batches(
    batch: Callable[[int], Any], B: int, rows: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    served = 0
    while True:
        x, y = _on_device(batch(B))
        yield x, y, 1 + served // rows
        served += B


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _on_device(rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets of rows (B, T + 1) as int64 (B, T) on the device."""
    pair = torch.from_numpy(np.stack([rows[:, :-1], rows[:, 1:]]).astype(np.int64))
    if _device().type == "cuda":
        pair = pair.pin_memory().to(_device(), non_blocking=True)
    return pair[0], pair[1]


def kernels(T: int, flex: bool | None = None) -> Callable[[str], SimpleNamespace]:
    """Return what stands for `get_kernel`, for rows of T tokens: torch's own attention.

    Args:
        T: tokens of a row.
        flex: use flex attention, which needs a GPU for training, for windows; default: on a GPU.
            Masks of the windows that the reference has used are made ahead; another window makes
            its own while the program compiles, which then happens twice.
    """
    flex = _device().type == "cuda" if flex is None else flex
    masks = {(T, window): _block_mask(T, window) for window in (T // 2, T // 8) if flex}

    def flash_attn_func(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
    ) -> torch.Tensor:
        """Return causal attention, (B, T, H, D) each: key j for query i where i - window <= j <= i.

        Raises:
            ValueError: it is not causal.
        """
        window = window_size[0]
        if not causal or window_size[1] > 0:
            raise ValueError(f"expected causal attention, got {causal} and window {window_size}")
        length, kind = q.shape[1], v.dtype
        q, k, v = q.to(kind).transpose(1, 2), k.to(kind).transpose(1, 2), v.transpose(1, 2)
        if window < 0 or window >= length - 1:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif flex:
            if (length, window) not in masks:
                masks[length, window] = _block_mask(length, window)
            y = flex_attention(q, k, v, block_mask=masks[length, window])
        else:
            ago = torch.arange(length)[:, None] - torch.arange(length)
            seen = (ago >= 0) & (ago <= window)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen.to(q.device))
        return y.transpose(1, 2)

    interface = SimpleNamespace(flash_attn_func=flash_attn_func)
    return lambda repository: SimpleNamespace(flash_attn_interface=interface)


def stand_in_for_cuda() -> None:
    """Let the program ask torch about a GPU where there is none: it is told of an H100, empty."""
    torch.cuda.get_device_capability = lambda device=None: (9, 0)  # type: ignore[assignment]
    torch.cuda.manual_seed = lambda seed: None
    torch.cuda.synchronize = lambda device=None: None
    torch.cuda.max_memory_allocated = lambda device=None: 0


def _block_mask(T: int, window: int) -> BlockMask:
    def seen(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (query >= key) & (query - key <= window)

    return create_block_mask(seen, None, None, T, T, device=_device())
