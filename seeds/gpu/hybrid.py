"""Founder for one GPU: gated short convolutions in most layers, attention in every third, and Muon.

Sources: Liquid AI 2025, "LFM2 Technical Report", section 2 (short convolutions between two gates in
most layers, attention in a few); Fu et al. 2023, "Hungry Hungry Hippos", section 3.1, and Poli et
al. 2023, "Hyena Hierarchy", section 3.1 (products before and after a causal filter); Su et al.
2021, "RoFormer", section 3.2 (rotary positions); Henry et al. 2020, "Query-Key Normalization for
Transformers", section 3; So et al. 2021, "Primer", section 3 (squared ReLU); Zhang et al. 2019,
"Fixup Initialization", section 3 (branches that start at zero); Gemma Team 2024, "Gemma 2", section
2 (capped logits); Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"
(orthogonalised momentum), and the record log of modded-nanogpt (the embedding anew in each layer);
Amsel et al. 2025, "The Polar Express", section 3 (its polynomials); Li et al. 2025, "NorMuon",
algorithm 1 (a scale per row); Chen et al. 2025, "Cautious Weight Decay", algorithm 1; Loshchilov
and Hutter 2019, "Decoupled Weight Decay Regularization", section 2 (AdamW).
"""

import gc
import math

import torch
import torch.nn.functional as F
from torch import nn

import prepare

DEPTH = 9  # 2..16
WIDTH = 640  # one of 256, 384, 512, 640, 768, 896, 1024
ATTENTION_EVERY = 3  # 1..6; the last of so many layers attends, the others convolve
HEAD_WIDTH = 128  # one of 32, 64, 128
KERNEL = 4  # 2..8; positions that a filter sees
EXPANSION = 4  # 1..6; hidden units of the feed-forward per unit of width
ROPE_BASE = 200000.0  # log 1000..1000000
SOFTCAP = 15.0  # log 5..60; largest logit
BATCH_TOKENS = 262144  # one of 65536, 131072, 262144, 524288; per step of the optimizer
EMBEDDING_LR = 0.8  # log 0.05..3; this and the next at width 768, by width ** -0.5
HEAD_LR = 0.004  # log 0.0005..0.05
MATRIX_LR = 0.04  # log 0.005..0.2
SCALAR_LR = 0.02  # log 0.001..0.2; filters, and whatever else is no matrix
WEIGHT_DECAY = 0.2  # 0..1; of matrices
BETA1 = 0.8  # 0.6..0.97
BETA2 = 0.95  # 0.8..0.999
MOMENTUM = 0.95  # 0.8..0.99
ROW_BETA = 0.95  # 0.5..0.999; memory of the scale per row
WARMUP = 0.0  # 0..0.1; share of the budget
COOLDOWN = 0.5  # 0.1..1; share of the budget
CPU_BFLOAT16 = False  # fixed; True: 16 bits on a CPU, too


def norm(x):
    return F.rms_norm(x, x.shape[-1:])


def linear(inputs, outputs, scale=1.0):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=scale * inputs**-0.5)
    return layer


def side_by_side(x, *layers):  # (B, T, D) -> one (B, T, C) per layer, read and written at once
    y = F.linear(x, torch.cat([layer.weight for layer in layers]))
    return y.split([layer.weight.shape[0] for layer in layers], dim=-1)


def rotate(x):  # (..., T, d): turn each pair of channels by its position times its frequency
    T, half = x.shape[-2], x.shape[-1] // 2
    frequency = ROPE_BASE ** -(torch.arange(half, device=x.device) / half)
    angle = torch.arange(T, device=x.device).unsqueeze(1) * frequency  # (T, d / 2)
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).type_as(x)


def convolve(x, filters):  # (B, T, D), (D, 1, K): each channel with its filter, backwards only
    T, K = x.shape[1], filters.shape[-1]
    padded = F.pad(x, (0, 0, K - 1, 0))
    y = x * filters[:, 0, K - 1]
    for k in range(K - 1):  # shifted copies are pointwise: a compiler fuses them with the gates
        y = y + padded[:, k : k + T] * filters[:, 0, k]
    return y.type_as(x)


class Embedding(nn.Module):
    def __init__(self, vocab_size, width):
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)

    def forward(self, tokens):  # (B, T) -> (B, T, D)
        return norm(self.table(tokens))


class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.value = linear(width, width)
        self.before = linear(width, width)
        self.after = linear(width, width)
        self.filters = nn.Parameter(torch.randn(width, 1, KERNEL) * KERNEL**-0.5)
        self.out = linear(width, width, 0.0)

    def forward(self, x):  # (B, T, D) -> (B, T, D)
        value, before, after = side_by_side(x, self.value, self.before, self.after)
        return self.out(convolve(value * before, self.filters) * after)


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        inner = self.heads * HEAD_WIDTH
        self.query = linear(width, inner)
        self.key = linear(width, inner)
        self.value = linear(width, inner)
        self.out = linear(inner, width, 0.0)

    def forward(self, x):  # (B, T, D) -> (B, T, D)
        B, T, _ = x.shape
        q, k, v = (
            y.view(B, T, self.heads, HEAD_WIDTH).transpose(1, 2)  # (B, H, T, d)
            for y in side_by_side(x, self.query, self.key, self.value)
        )
        q, k = rotate(norm(q).type_as(v)), rotate(norm(k).type_as(v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = linear(width, EXPANSION * width)
        self.down = linear(EXPANSION * width, width, 0.0)

    def forward(self, x):
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mixer = Mixer(width)
        self.feed_forward = FeedForward(width)

    def forward(self, x):
        x = x + self.mixer(norm(x))
        return x + self.feed_forward(norm(x))


class Model(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.embedding = Embedding(vocab_size, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH) for _ in range(DEPTH))
        for block in self.blocks[ATTENTION_EVERY - 1 :: ATTENTION_EVERY]:
            block.mixer = Attention(WIDTH)
        self.carry = nn.Parameter(torch.ones(DEPTH))
        self.recall = nn.Parameter(torch.full((DEPTH,), 0.1))
        self.head = linear(WIDTH, vocab_size, 0.0)

    def forward(self, tokens):  # (B, T) -> (B, T, V), float32
        device = tokens.device.type
        low = device == "cuda" or CPU_BFLOAT16
        with torch.autocast(device, torch.bfloat16, enabled=low):
            x = self.embedding(tokens)
            x = start = x.bfloat16() if low else x
            for layer, block in enumerate(self.blocks):
                x = block(self.carry[layer] * x + self.recall[layer] * start)
            logits = self.head(norm(x))
        return SOFTCAP * torch.tanh(logits.float() / SOFTCAP)


def orthogonalize(x):  # (N, R, C): push all singular values of each matrix towards 1
    """Apply the five quintics that are best in turn for singular values from 0.001 to 1."""
    polynomials = (
        (8.2872, -23.5959, 17.3004),
        (4.1071, -2.9479, 0.5448),
        (3.9487, -2.9089, 0.5518),
        (3.3184, -2.4885, 0.5100),
        (2.3007, -1.6689, 0.4188),
    )
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    x = x.bfloat16() if x.is_cuda else x
    for a, b, c in polynomials:
        a, b, c = a / 1.01, b / 1.01**3, c / 1.01**5  # what rounding lifts over 1 must not grow
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


def muon_update(weights, gradients, average, scale, knobs):
    """Move a stack of matrices (N, R, C) by one step, in place, with their averages.

    Args:
        weights, gradients, average: (N, R, C); the average is of gradients.
        scale: (N, R, 1), the mean square of each row of earlier updates.
        knobs: 0-d tensors, so that other values need no other compilation.
    """
    average.lerp_(gradients, 1.0 - knobs["momentum"])
    update = orthogonalize(gradients.lerp(average, knobs["momentum"]))
    scale.lerp_(update.square().mean(-1, keepdim=True), 1.0 - knobs["row_beta"])
    even = update * (scale + 1e-10).rsqrt()
    whole = {"dim": (-2, -1), "keepdim": True}
    even = even * (update.norm(**whole) / (even.norm(**whole) + 1e-10))
    shrinks = (even * weights > 0).float()  # decay only where the step goes towards zero as well
    weights.sub_(knobs["rate"] * even + knobs["decay"] * shrinks * weights)


class Muon(torch.optim.Optimizer):
    """One group per shape, each of which moves as one stack; compiled on a GPU."""

    def __init__(self, params):
        groups: dict = {}
        for p in params:
            groups.setdefault(p.shape, []).append(p)
        super().__init__([{"params": group} for group in groups.values()], {"lr": MATRIX_LR})
        device = self.param_groups[0]["params"][0].device
        names = ("rate", "decay", "momentum", "row_beta")
        self.knobs = {name: torch.zeros((), device=device) for name in names}
        compiled = device.type == "cuda"
        self.update = torch.compile(muon_update, dynamic=False) if compiled else muon_update

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            matrices = group["params"]
            present = [torch.zeros_like(p) if p.grad is None else p.grad for p in matrices]
            weights, gradients = torch.stack(matrices), torch.stack(present)
            state = self.state[matrices[0]]
            if not state:
                state["average"] = torch.zeros_like(weights)
                state["scale"] = torch.zeros_like(weights[..., :1])
            rows, columns = matrices[0].shape
            share = group["lr"] / group.get("initial_lr", MATRIX_LR)
            self.knobs["rate"].fill_(group["lr"] * max(1.0, rows / columns) ** 0.5)
            self.knobs["decay"].fill_(group["lr"] * WEIGHT_DECAY * share)
            self.knobs["momentum"].fill_(MOMENTUM)
            self.knobs["row_beta"].fill_(ROW_BETA)
            self.update(weights, gradients, state["average"], state["scale"], self.knobs)
            torch._foreach_copy_(matrices, list(weights.unbind()))


class Together:  # several optimizers behind the interface of one
    def __init__(self, *optimizers):
        self.optimizers = optimizers
        self.param_groups = [group for o in optimizers for group in o.param_groups]

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()


def build_optimizer(model):
    tables, head = list(model.embedding.parameters()), list(model.head.parameters())
    known = {id(p) for p in tables + head}
    inner = [p for p in model.parameters() if id(p) not in known]
    by_width = (head[0].shape[-1] / 768) ** -0.5
    groups = [
        {"params": tables, "lr": EMBEDDING_LR * by_width},
        {"params": head, "lr": HEAD_LR * by_width},
        {"params": [p for p in inner if p.ndim != 2], "lr": SCALAR_LR},
    ]
    adam = torch.optim.AdamW(groups, betas=(BETA1, BETA2), eps=1e-10, weight_decay=0.0, fused=True)
    optimizer = Together(adam, Muon([p for p in inner if p.ndim == 2]))
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def schedule(progress):
    rise = (progress + 0.01) / (WARMUP + 0.01)
    fall = (1.0 - progress) / COOLDOWN
    return min(1.0, rise, fall)


def rows_at_once(model, run):
    """Return (rows of a micro-batch, micro-batches per step): what the device's memory holds.

    A token needs about 2 bytes per unit that a matrix reads or writes and 12 per logit; twice that
    is reserved for the first, and 1.3 GB for everything else.
    """
    rows = max(1, BATCH_TOKENS // run.sequence_length)
    if not run.device.startswith("cuda"):
        return rows, 1
    units = sum(sum(p.shape) for p in model.blocks.parameters() if p.ndim == 2)
    row_bytes = run.sequence_length * (4 * units + 12 * run.vocab_size)
    memory = torch.cuda.get_device_properties(run.device).total_memory - 1.3e9
    fitting = 2 ** int(math.log2(max(1.0, memory / row_bytes)))
    while rows % fitting:
        fitting //= 2
    return fitting, rows // fitting


def training_loss(model, x, y):  # (B, T), (B, T) -> nats per token
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def warm_up(model, optimizer, loss_of, tokens):
    """Compile and allocate all that a step needs, then leave the model and a new optimizer as new.

    Args:
        loss_of: (model, x, y) -> loss, compiled or not.
        tokens: int64 (B, T) of the shape that training has.
    """
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(2):
        loss_of(model, tokens, tokens.roll(-1, dims=1)).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.load_state_dict(weights)
    for part in getattr(optimizer, "optimizers", [optimizer]):
        part.state.clear()


def main():
    run = prepare.start()
    torch.set_float32_matmul_precision("high")
    model = Model(run.vocab_size).to(run.device)
    optimizer = build_optimizer(model)
    run.register(model)
    compiled = run.device.startswith("cuda")
    loss_of = torch.compile(training_loss, dynamic=False) if compiled else training_loss
    rows, parts = rows_at_once(model, run)
    warm_up(model, optimizer, loss_of, run.warmup_tokens(rows))
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection may last as long as a step
    for part, (x, y) in enumerate(run.batches(rows), 1):
        loss = loss_of(model, x, y)
        (loss / parts).backward()
        if part % parts:
            continue
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * schedule(run.progress)
        optimizer.step()
        optimizer.zero_grad()
        if part // parts % 10 == 1:
            run.report(loss.detach())
    run.deliver(model)


if __name__ == "__main__":
    main()
