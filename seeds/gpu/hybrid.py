"""Founder for one GPU and five minutes: short convolutions, attention in every third layer, Muon.

Sources: Liquid AI 2025, "LFM2 Technical Report", section 2 (short convolutions between two gates in
most layers, attention in a few); Fu et al. 2023, "Hungry Hungry Hippos", section 3.1, and Poli et
al. 2023, "Hyena Hierarchy", section 3.1 (products before and after a causal filter); Su et al.
2021, "RoFormer", section 3.2 (rotary positions); Henry et al. 2020, "Query-Key Normalization for
Transformers", section 3; So et al. 2021, "Primer", section 3 (squared ReLU); Zhang et al. 2019,
"Fixup Initialization", section 3 (branches that start at zero); Gemma Team 2024, "Gemma 2", section
2 (capped logits); Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"
(orthogonalised momentum), and the record log of modded-nanogpt (the embedding again in each layer);
Amsel et al. 2025, "The Polar Express", section 3 (its polynomials); Li et al. 2025, "NorMuon",
algorithm 1 (a scale per neuron); Chen et al. 2025, "Cautious Weight Decay", algorithm 1; Loshchilov
and Hutter 2019, "Decoupled Weight Decay Regularization", section 2 (AdamW).
"""

import gc

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
SOFTCAP = 15.0  # log 5..60; bound on the logits
FIRST_SHARE = 0.05  # 0..0.4; of the embedding that each layer gets again, at the start
BATCH_TOKENS = 131072  # one of 65536, 131072, 262144, 524288; per step of the optimizer
EMBEDDING_LR = 0.8  # log 0.05..3; this and the next at width 768, by width ** -0.5
HEAD_LR = 0.004  # log 0.0005..0.05
MATRIX_LR = 0.02  # log 0.005..0.2
SCALAR_LR = 0.02  # log 0.001..0.2; filters, and whatever else is no matrix
WEIGHT_DECAY = 0.15  # 0..1; of matrices, falls to zero
BETA1 = 0.8  # 0.6..0.97
BETA2 = 0.95  # 0.8..0.999
MOMENTUM = 0.95  # 0.8..0.99
FIRST_MOMENTUM = 0.85  # 0.5..0.95
MOMENTUM_RISE = 0.15  # 0..0.5; share of the budget
VARIANCE_BETA = 0.95  # 0.5..0.999
WARMUP = 0.0  # 0..0.1; share of the budget
COOLDOWN = 0.62  # 0.1..1; share of the budget
CPU_BFLOAT16 = False  # fixed; True: 16 bits on a CPU, too


def norm(x):
    return F.rms_norm(x, x.shape[-1:])


def linear(inputs, outputs, scale=1.0):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=scale * inputs**-0.5)
    return layer


def on_gpu(run):
    return torch.device(run.device).type == "cuda"


def stream_type(device):  # of activations; parameters are float32
    return torch.bfloat16 if device.type == "cuda" or CPU_BFLOAT16 else torch.float32


def attends(layer):
    return layer % ATTENTION_EVERY == ATTENTION_EVERY - 1


def side_by_side(x, *layers):  # (B, T, D) -> one (B, T, C) per layer, by one product
    y = F.linear(x, torch.cat([layer.weight for layer in layers]))
    return y.split([layer.weight.shape[0] for layer in layers], dim=-1)


def rotations(T, width):  # cosine and sine of position times frequency, (T, 1, width / 2) each
    frequency = ROPE_BASE ** -(torch.arange(width // 2) / (width // 2))
    angle = torch.arange(T).view(T, 1, 1) * frequency
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):  # (B, T, H, d): turn each pair of channels
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def convolve(x, filters):  # (B, T, D), (D, 1, K): each channel with its filter, backwards only
    T, last = x.shape[1], filters.shape[-1] - 1
    padded = F.pad(x, (0, 0, last, 0))
    y = x * filters[:, 0, last]
    for k in range(last):  # pointwise on shifted views: a compiler makes one kernel of it
        y = y + padded[:, k : k + T] * filters[:, 0, k]
    return y.type_as(x)


class Embedding(nn.Module):
    def __init__(self, vocab_size, width):
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)

    def forward(self, tokens):  # (B, T) -> (B, T, D)
        return norm(self.table(tokens)).to(stream_type(tokens.device))


class Mixer(nn.Module):
    """A causal filter per channel between two gates, each linear in the input."""

    def __init__(self, layer, vocab_size, T):
        super().__init__()
        self.value = linear(WIDTH, WIDTH)
        self.before = linear(WIDTH, WIDTH)
        self.after = linear(WIDTH, WIDTH)
        self.filters = nn.Parameter(torch.randn(WIDTH, 1, KERNEL) * KERNEL**-0.5)
        self.out = linear(WIDTH, WIDTH, 0.0)

    def forward(self, x, tokens):  # (B, T, D), (B, T) -> (B, T, D)
        value, before, after = side_by_side(x, self.value, self.before, self.after)
        return self.out(convolve(value * before, self.filters) * after)


class Attention(nn.Module):
    def __init__(self, layer, vocab_size, T):
        super().__init__()
        self.heads = max(1, WIDTH // HEAD_WIDTH)
        inner = self.heads * HEAD_WIDTH
        self.query = linear(WIDTH, inner)
        self.key = linear(WIDTH, inner)
        self.value = linear(WIDTH, inner)
        self.out = linear(inner, WIDTH, 0.0)
        cos, sin = rotations(T, HEAD_WIDTH)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, x, tokens):  # (B, T, D), (B, T) -> (B, T, D)
        B, T, _ = x.shape
        q, k, v = (
            y.view(B, T, self.heads, HEAD_WIDTH)
            for y in side_by_side(x, self.query, self.key, self.value)
        )
        q, k = (rotate(norm(y), self.cos, self.sin).type_as(v) for y in (q, k))
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))  # (B, H, T, d)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = linear(width, EXPANSION * width)
        self.down = linear(EXPANSION * width, width, 0.0)

    def forward(self, x):
        x = F.relu(self.up(x))
        return self.down(x * x)  # autocast would compute a power in 32 bits


class Block(nn.Module):
    def __init__(self, layer, vocab_size, T):
        super().__init__()
        self.keep = nn.Parameter(torch.tensor(1.0))
        self.first = nn.Parameter(torch.tensor(FIRST_SHARE))
        self.mixer = (Attention if attends(layer) else Mixer)(layer, vocab_size, T)
        self.feed_forward = FeedForward(WIDTH)

    def forward(self, x, first, tokens):
        x = self.keep * x + self.first * first
        x = x + self.mixer(norm(x), tokens)
        return x + self.feed_forward(norm(x))


class Model(nn.Module):
    def __init__(self, vocab_size, T):
        super().__init__()
        self.embedding = Embedding(vocab_size, WIDTH)
        self.blocks = nn.ModuleList(Block(layer, vocab_size, T) for layer in range(DEPTH))
        self.head = linear(WIDTH, vocab_size, 0.0)
        self.register_buffer("cap", torch.tensor(SOFTCAP))

    def forward(self, tokens):  # (B, T) -> (B, T, V) float32
        device = tokens.device
        low = stream_type(device) != torch.float32
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
            first = x = self.embedding(tokens)
            for block in self.blocks:
                x = block(x, first, tokens)
            logits = self.head(norm(x))
        return self.cap * torch.tanh(logits.float() / self.cap)


def orthogonalize(x):  # (N, R, C): push all singular values of each matrix towards 1
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).to(stream_type(x.device))
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # The odd quintics nearest to 1, one after the other, from 0.001 on with a cushion of 0.024.
    for a, b, c in (
        (8.2872, -23.5961, 17.3006),
        (4.1071, -2.9479, 0.5448),
        (3.9487, -2.9089, 0.5518),
        (3.3184, -2.4885, 0.5100),
        (2.3006, -1.6689, 0.4188),
    ):
        a, b, c = a / 1.01, b / 1.01**3, c / 1.01**5  # what rounding lifts over 1 must not grow
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


def muon_update(weights, gradients, momentum, variance, rate, beta, decay, variance_beta):
    """Move a stack of matrices by one step, in place, with their two states.

    Args:
        weights, gradients, momentum: (N, R, C); the momentum is an average of gradients.
        variance: mean squares of earlier updates, (N, R, 1) or (N, 1, C): of the longer side.
        rate, beta, decay, variance_beta: 0-d tensors: other values need no other compilation.
    """
    rows, columns = weights.shape[-2:]
    momentum.lerp_(gradients, 1.0 - beta)
    update = orthogonalize(gradients.lerp(momentum, beta))
    power = update.square().mean(-1 if rows >= columns else -2, keepdim=True)
    variance.lerp_(power, 1.0 - variance_beta)
    scale = (variance + 1e-10).rsqrt()
    length, now = (s.sum((-2, -1), keepdim=True).sqrt() for s in (power, power * scale * scale))
    even = update * (scale * (length / (now + 1e-10) * max(1.0, rows / columns) ** 0.5))
    shrinks = even * weights > 0  # decay only where the step goes towards zero as well
    weights.sub_(rate * (even + decay * shrinks * weights))


class Muon(torch.optim.Optimizer):
    """One group per shape, which moves as one stack; compiled on a GPU."""

    def __init__(self, params):
        shapes = {}
        for p in params:
            shapes.setdefault(p.shape[-2:], []).append(p)
        groups = [{"params": group} for group in shapes.values()]
        super().__init__(groups, {"lr": MATRIX_LR, "momentum": MOMENTUM, "decay": WEIGHT_DECAY})
        fast = any(p.is_cuda for p in params)
        self.update = torch.compile(muon_update, dynamic=False) if fast else muon_update

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            params = group["params"]
            stacks = [p.view(-1, *p.shape[-2:]) for p in params]
            present = (torch.zeros_like(p) if p.grad is None else p.grad for p in params)
            gradients = torch.cat([g.view_as(s) for g, s in zip(present, stacks, strict=True)])
            weights = torch.cat(stacks)  # (N, R, C)
            state = self.state[params[0]]
            if not state:
                state["momentum"] = torch.zeros_like(weights)
                longer = 2 if weights.shape[1] >= weights.shape[2] else 1
                state["variance"] = torch.zeros_like(weights.narrow(longer, 0, 1))
            numbers = [group["lr"], group["momentum"], group["decay"], VARIANCE_BETA]
            numbers = [torch.full((), number, device=weights.device) for number in numbers]
            self.update(weights, gradients, state["momentum"], state["variance"], *numbers)
            torch._foreach_copy_(stacks, list(weights.split([len(stack) for stack in stacks])))


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

    def forget(self):  # its state becomes that of a new one
        for optimizer in self.optimizers:
            optimizer.state.clear()


def tables_in(model):
    return [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]


def is_matrix(p):  # or a stack of them, (..., R, C); a filter or a gate is none
    return p.ndim > 1 and min(p.shape[-2:]) >= 12


def build_optimizer(model):
    tables, head = tables_in(model), list(model.head.parameters())
    known = {id(p) for p in tables + head}
    inner = [p for p in model.parameters() if id(p) not in known]
    by_width = (head[0].shape[-1] / 768) ** -0.5
    groups = [
        {"params": tables, "lr": EMBEDDING_LR * by_width},
        {"params": head, "lr": HEAD_LR * by_width},
        {"params": [p for p in inner if not is_matrix(p)], "lr": SCALAR_LR},
    ]
    betas = (BETA1, BETA2)
    adam = torch.optim.AdamW(groups, betas=betas, eps=1e-10, weight_decay=0.0, fused=True)
    optimizer = Together(adam, Muon([p for p in inner if is_matrix(p)]))
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def schedule(progress):
    rise = (progress + 0.01) / (WARMUP + 0.01)
    fall = (1.0 - progress) / COOLDOWN
    return min(1.0, rise, fall)


def set_rates(optimizer, progress):
    risen = min(1.0, (progress + 1e-3) / (MOMENTUM_RISE + 1e-3))
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * schedule(progress)
        if "momentum" in group:
            group["momentum"] = FIRST_MOMENTUM + (MOMENTUM - FIRST_MOMENTUM) * risen
            group["decay"] = WEIGHT_DECAY * (1.0 - progress)


def micro_batch(model, run):
    """Return how many rows fit on the device at once: a divisor of the batch's rows.

    For a token 4 bytes are set aside per unit that a matrix reads or writes, twice what its
    activations in 16 bits need, 12 per logit, and 1.3 GB for everything else.
    """
    batch = rows = max(1, BATCH_TOKENS // run.sequence_length)
    if not on_gpu(run):
        return batch
    tables = {id(p) for p in tables_in(model)}
    inner = [p for p in model.blocks.parameters() if is_matrix(p) and id(p) not in tables]
    units = sum(p[..., 0].numel() + p[..., 0, :].numel() for p in inner)
    row_bytes = run.sequence_length * (4 * units + 12 * run.vocab_size)
    memory = torch.cuda.get_device_properties(run.device).total_memory - 1.3e9
    while rows > 1 and (batch % rows or rows * row_bytes > memory):
        rows -= 1
    return rows


def training_loss(model, run):  # (x, y), int64 (B, T) each -> mean nats per token
    def loss_of(x, y):
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return torch.compile(loss_of, dynamic=False) if on_gpu(run) else loss_of


def warm_up(run, model, optimizer, loss_of, rows):
    """Compile and allocate all that a step needs; leave the weights and a new optimizer as new."""
    kept = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):
        tokens = run.warmup_tokens(rows)
        loss_of(tokens, tokens.roll(-1, dims=1)).backward()
        optimizer.step()
        optimizer.zero_grad()
    optimizer.forget()
    with torch.no_grad():
        for p, before in zip(model.parameters(), kept, strict=True):
            p.copy_(before)
    if on_gpu(run):
        torch.cuda.synchronize()


def main():
    run = prepare.start()
    torch.set_float32_matmul_precision("high")
    with torch.device(run.device):
        model = Model(run.vocab_size, run.sequence_length)
    optimizer = build_optimizer(model)
    run.register(model)
    rows = micro_batch(model, run)
    parts = max(1, BATCH_TOKENS // run.sequence_length) // rows
    loss_of = training_loss(model, run)
    warm_up(run, model, optimizer, loss_of, rows)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection may last as long as a step
    for part, (x, y) in enumerate(run.batches(rows), 1):
        loss = loss_of(x, y)
        (loss / parts).backward()
        if part % parts == 0:
            set_rates(optimizer, run.progress)
            optimizer.step()
            optimizer.zero_grad()
            if part // parts % 25 == 1:
                run.report(loss.detach())
    run.deliver(model)


if __name__ == "__main__":
    main()
