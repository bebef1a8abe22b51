"""Founder for one GPU and five minutes: the GPT with hashed tables of bigrams and trigrams.

They are added to the embedding and, under a gate per head, to the values of attention. Besides, the
previous token's embedding is mixed in (smear), a share of the middle of the stream is subtracted
before the head (backout), and a gate per head closes attention.

Sources: Huang et al. 2025, "Over-Tokenized Transformer", section 3.2 (hashed n-grams as input);
Cheng et al. 2026, "Conditional Memory via Scalable Lookup", section 2 (n-gram memory inside the
layers, opened by the stream); Qiu et al. 2025, "Gated Attention for Large Language Models", section
2.2 (a sigmoid gate after attention); smear, backout and gates that read a few channels come from
modded-nanogpt and nanochat. The rest is described in the plain GPT among the founders.
"""

import gc
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

import prepare

DEPTH = 9  # 4..16
WIDTH = 640  # one of 384, 512, 640, 768, 896, 1024
HEAD_WIDTH = 128  # one of 64, 128
EXPANSION = 4  # 2..6; hidden units of the feed-forward per unit of width
WINDOW_PATTERN = "SSSSL"  # one of SL, SSL, SSSL, SSSSL, L; repeated, the last layer is L
SHORT_WINDOW = 256  # one of 128, 256, 512, 1024; positions that an S layer sees
ROPE_BASE = 200000.0  # log 1000..1000000
QK_SCALE = 1.2  # 0.8..1.6; of queries and keys after their norm
SOFTCAP = 15.0  # log 5..60; bound on the logits
FIRST_SHARE = 0.05  # 0..0.4; of the embedding that each layer gets again, at the start
GATE_CHANNELS = 16  # one of 8, 12, 16, 32; of the stream, which move the gates
BIGRAM_ROWS = 65536  # one of 16384, 32768, 65536, 131072, 262144; of each hashed table
TRIGRAM_ROWS = 65536  # one of 16384, 32768, 65536, 131072, 262144
NGRAM_LAYERS = 4  # 0..6; layers with value embeddings, from the last, that look up n-grams
BACKOUT = 0.2  # 0..0.6; share of the stream's middle that the head does not see, at the start
MATRIX_SCALE = 0.7  # log 0.2..1.5; of initial matrices
BATCH_TOKENS = 131072  # one of 65536, 131072, 262144, 524288; per step of the optimizer
EMBEDDING_LR = 0.6  # log 0.05..3
NGRAM_LR = 0.2  # log 0.01..2
HEAD_LR = 0.004  # log 0.0005..0.03
MATRIX_LR = 0.02  # log 0.004..0.1
SCALAR_LR = 0.01  # log 0.001..0.3; of shares of the stream and of gates
WEIGHT_DECAY = 0.15  # 0..0.5; of the matrices, falls to zero
TABLE_DECAY = 0.002  # 0..0.02; of embeddings of single tokens
BETA1 = 0.8  # 0.6..0.95
BETA2 = 0.95  # 0.9..0.99; nearer to 1, 16 bits would never forget
MOMENTUM = 0.95  # 0.85..0.99
FIRST_MOMENTUM = 0.85  # 0.7..0.95
MOMENTUM_RISE = 0.12  # 0..0.5; share of the budget
VARIANCE_BETA = 0.95  # 0.8..0.99
WARMUP = 0.0  # 0..0.1; share of the budget
COOLDOWN = 0.62  # 0.2..1; share of the budget
FINAL_RATE = 0.06  # 0..0.2; share of the peak


def norm(x):
    return F.rms_norm(x, x.shape[-1:])


def linear(inputs, outputs, scale=1.0):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=scale * inputs**-0.5)
    return layer


def stream_type(device):  # of activations; parameters are float32
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def on_gpu(run):
    return torch.device(run.device).type == "cuda"


def window_of(layer, T):  # positions that a layer sees, its own included
    short = layer < DEPTH - 1 and WINDOW_PATTERN[layer % len(WINDOW_PATTERN)] == "S"
    return min(SHORT_WINDOW, T) if short else T


def rotations(T, width):  # cosine and sine, (T, 1, width / 2) each
    frequency = ROPE_BASE ** -(torch.arange(width // 2) / (width // 2))
    angle = torch.arange(T).unsqueeze(1) * frequency
    return angle.cos().unsqueeze(1), angle.sin().unsqueeze(1)


def rotate(x, cos, sin):  # (B, T, H, d): turn each pair of channels
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def earlier(x, steps):  # (B, T) or (B, T, D): what stood so many places before, else zero
    shape = (x.shape[0], steps, *x.shape[2:])
    return torch.cat((x.new_zeros(shape), x), dim=1)[:, : x.shape[1]]


def fitting(rows):  # of a hashed table; fewer on a small GPU
    if not torch.cuda.is_available():
        return rows
    share = torch.cuda.get_device_properties(0).total_memory / 22e9
    return max(1, int(rows * min(1.0, share)))


def attend(q, k, v, window):  # (B, H, T, d), causal
    T = q.shape[-2]
    if window >= T:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    # Blocks of as many positions as the window has: each sees itself and the one before.
    H, N = q.shape[1], -(-T // window)
    rest = N * window - T
    q = F.pad(q, (0, 0, 0, rest)).unflatten(2, (N, window)).flatten(1, 2)  # (B, H N, W, d)
    k, v = (F.pad(each, (0, 0, window, rest)).unflatten(2, (N + 1, window)) for each in (k, v))
    k, v = (torch.cat((each[:, :, :-1], each[:, :, 1:]), dim=3).flatten(1, 2) for each in (k, v))
    key = torch.arange(2 * window, device=q.device)
    back = key[window:].unsqueeze(1) - key
    seen = ((back >= 0) & (back < window)).expand(N, -1, -1)
    seen = seen & (key + window * torch.arange(N, device=q.device).view(N, 1, 1) >= window)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen.repeat(H, 1, 1))  # (B, H N, W, d)
    return y.unflatten(1, (H, N)).flatten(2, 3)[:, :, :T]


class NGrams(nn.Module):  # the last two and the last three tokens; several share a row
    def __init__(self, width, salt):  # with another salt, others share
        super().__init__()
        odd = (1_940_868_379, 1_213_760_953, 1_673_096_417)
        self.factors = [number * (2 * salt + 1) % 2**31 for number in odd]
        low = {"dtype": torch.bfloat16}
        self.bigrams = nn.Embedding(fitting(BIGRAM_ROWS), width, **low)
        self.trigrams = nn.Embedding(fitting(TRIGRAM_ROWS), width, **low)
        for table in (self.bigrams, self.trigrams):
            nn.init.zeros_(table.weight)

    def rows(self, tokens):  # (B, T) -> two of (B, T)
        a, b, c = self.factors
        two = tokens * a ^ earlier(tokens, 1) * b
        three = two ^ earlier(tokens, 2) * c
        tables = (self.bigrams, self.trigrams)
        keys = ((key ^ key >> 17) for key in (two, three))
        return [key % t.num_embeddings for key, t in zip(keys, tables, strict=True)]

    def forward(self, tokens):  # (B, T) -> two of (B, T, D), bfloat16
        two, three = self.rows(tokens)
        return self.bigrams(two), self.trigrams(three)


class Embedding(nn.Module):
    def __init__(self, vocab_size, width):
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)
        self.ngrams = NGrams(width, 0)
        self.smear = nn.Parameter(torch.tensor(0.0))
        self.gate = linear(GATE_CHANNELS, 1, 0.0)

    def forward(self, tokens):  # (B, T) -> (B, T, D)
        two, three = self.ngrams(tokens)
        x = norm(self.table(tokens) + two + three).to(stream_type(tokens.device))
        gate = self.smear * torch.sigmoid(self.gate(x[..., :GATE_CHANNELS]))
        return x + gate.to(x.dtype) * earlier(x, 1)


class Mixer(nn.Module):
    def __init__(self, layer, vocab_size, T):
        super().__init__()
        self.heads, self.window = max(1, WIDTH // HEAD_WIDTH), window_of(layer, T)
        inner = self.heads * HEAD_WIDTH
        self.qkv = nn.Parameter(torch.randn(3, inner, WIDTH) * MATRIX_SCALE * WIDTH**-0.5)
        self.out = linear(inner, WIDTH, 0.0)
        cos, sin = rotations(T, HEAD_WIDTH)
        self.register_buffer("cos", QK_SCALE * cos)
        self.register_buffer("sin", QK_SCALE * sin)
        self.gate = linear(GATE_CHANNELS, self.heads, 0.0)
        self.values = self.ngrams = None
        if (DEPTH - 1 - layer) % 2 == 0:
            self.values = nn.Embedding(vocab_size, inner)
            nn.init.normal_(self.values.weight, std=MATRIX_SCALE * WIDTH**-0.5)
            self.value_gate = linear(GATE_CHANNELS, 3 * self.heads, 0.0)
            if (DEPTH - 1 - layer) // 2 < NGRAM_LAYERS:
                self.ngrams = NGrams(inner, layer + 1)
        self.windowed = None  # a faster equal of `attend`, for training

    def forward(self, x, tokens):  # (B, T, D), (B, T) -> (B, T, D)
        B, T, _ = x.shape
        qkv = F.linear(x, self.qkv.flatten(0, 1)).view(B, T, 3, self.heads, HEAD_WIDTH)
        q, k, v = qkv.unbind(2)
        if self.values is not None:
            found = [self.values(tokens), *(self.ngrams(tokens) if self.ngrams is not None else ())]
            gates = 2.0 * torch.sigmoid(self.value_gate(x[..., :GATE_CHANNELS]))
            for gate, each in zip(gates.chunk(3, dim=-1), found, strict=False):
                v = v + gate.unsqueeze(-1) * each.view_as(v).to(v.dtype)
        q, k = (rotate(norm(each), self.cos, self.sin).to(v.dtype) for each in (q, k))
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        if self.training and self.windowed is not None:
            y = self.windowed(q, k, v)
        else:
            y = attend(q, k, v, self.window)
        opened = 2.0 * torch.sigmoid(self.gate(x[..., :GATE_CHANNELS]))  # (B, T, H)
        y = y.transpose(1, 2) * opened.unsqueeze(-1)
        return self.out(y.reshape(B, T, -1))


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = linear(width, EXPANSION * width, 0.5 * MATRIX_SCALE)
        self.down = linear(EXPANSION * width, width, 0.0)

    def forward(self, x):
        x = F.relu(self.up(x))
        return self.down(x * x)  # autocast would compute a power in 32 bits


class Block(nn.Module):
    def __init__(self, layer, vocab_size, T):
        super().__init__()
        self.keep = nn.Parameter(torch.tensor(1.0))
        self.first = nn.Parameter(torch.tensor(FIRST_SHARE))
        self.mixer = Mixer(layer, vocab_size, T)
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
        self.backout = nn.Parameter(torch.tensor(BACKOUT))
        self.head = linear(WIDTH, vocab_size, 0.02)
        self.register_buffer("cap", torch.tensor(SOFTCAP))

    def forward(self, tokens):  # (B, T) -> (B, T, V) float32
        device = tokens.device
        low = stream_type(device) != torch.float32
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
            first = middle = x = self.embedding(tokens)
            for layer, block in enumerate(self.blocks):
                x = block(x, first, tokens)
                middle = x if layer == DEPTH // 2 - 1 else middle
            logits = self.head(norm(x - self.backout * middle))
        return self.cap * torch.tanh(logits.float() / self.cap)


def orthogonalize(x):  # (N, rows, columns): push all singular values towards 1
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).to(stream_type(x.device))
    x = x / (1.02 * x.norm(dim=(-2, -1), keepdim=True) + 1e-6)
    # The best odd quintics in turn for singular values from 0.001, with a cushion of 0.02; all
    # but the last are slowed by 1.02, so that rounding drives no value out of their range.
    for a, b, c in (
        (8.1566, -22.4833, 15.8788),
        (4.0419, -2.8087, 0.5001),
        (3.8839, -2.7707, 0.5064),
        (3.2455, -2.3394, 0.4614),
        (2.2938, -1.6627, 0.4181),
    ):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


def muon_update(weights, gradients, momentum, variance, rate, beta, decay, variance_beta):
    """Change stacked matrices (N, rows, columns) and their two states in place."""
    rows, columns = weights.shape[-2:]
    momentum.lerp_(gradients, 1.0 - beta)
    update = orthogonalize(gradients.lerp(momentum, beta))
    power = update.square().mean(-1 if rows >= columns else -2, keepdim=True)  # of each neuron
    variance.lerp_(power, 1.0 - variance_beta)
    scale = variance.clamp_min(1e-10).rsqrt()
    before, after = (each.sum((-2, -1), keepdim=True) for each in (power, power * scale * scale))
    scale = scale * (before / after.clamp_min(1e-20)).sqrt()  # the whole matrix moves as far
    even = update * (scale * max(1.0, rows / columns) ** 0.5)
    shrink = decay * weights * (even * weights > 0)
    weights.sub_(rate * (even + shrink))


class Muon(torch.optim.Optimizer):
    def __init__(self, params):
        by_shape = {}
        for p in params:
            by_shape.setdefault(p.shape[-2:], []).append(p)
        groups = [{"params": group} for group in by_shape.values()]
        super().__init__(groups, {"lr": MATRIX_LR, "momentum": MOMENTUM, "decay": WEIGHT_DECAY})
        fast = any(p.is_cuda for group in by_shape.values() for p in group)
        self.update = torch.compile(muon_update, dynamic=False) if fast else muon_update

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            matrices = [p.view(-1, *p.shape[-2:]) for p in group["params"]]
            gradients = torch.cat([
                torch.zeros_like(m) if p.grad is None else p.grad.view_as(m)
                for p, m in zip(group["params"], matrices, strict=True)
            ])  # fmt: skip
            weights = torch.cat(matrices)  # (N, rows, columns)
            state = self.state[group["params"][0]]
            if not state:
                state["momentum"] = torch.zeros_like(weights)
                shorter = -1 if weights.shape[-2] >= weights.shape[-1] else -2
                state["variance"] = torch.zeros_like(weights.mean(shorter, keepdim=True))
            numbers = [group["lr"], group["momentum"], group["decay"], VARIANCE_BETA]
            numbers = [torch.full((), number, device=weights.device) for number in numbers]
            self.update(weights, gradients, state["momentum"], state["variance"], *numbers)
            torch._foreach_copy_(matrices, list(weights.split([len(m) for m in matrices])))


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

    def forget(self):  # its state becomes what it was before the first step: none
        for optimizer in self.optimizers:
            optimizer.state.clear()


def build_optimizer(model):
    kinds = {"table": [], "ngram": [], "head": [], "small": [], "matrix": []}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, p in model.named_parameters():
        if id(p) in tables:
            kinds["ngram" if "ngrams." in name else "table"].append(p)
        elif name.startswith("head."):
            kinds["head"].append(p)
        elif p.ndim < 2 or min(p.shape[-2:]) <= 32:  # numbers and gates
            kinds["small"].append(p)
        else:
            kinds["matrix"].append(p)
    rates = {"table": EMBEDDING_LR, "ngram": NGRAM_LR, "head": HEAD_LR, "small": SCALAR_LR}
    groups = [
        {"params": kinds[kind], "lr": lr, "weight_decay": TABLE_DECAY * (kind == "table")}
        for kind, lr in rates.items()
        if kinds[kind]
    ]
    betas = (BETA1, BETA2)
    adam = torch.optim.AdamW(groups, betas=betas, eps=1e-10, fused=True)
    optimizer = Together(adam, Muon(kinds["matrix"]))
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def schedule(progress):
    rise = (progress + 0.002) / (WARMUP + 0.002)
    fall = FINAL_RATE + (1.0 - FINAL_RATE) * (1.0 - progress) / COOLDOWN
    return min(1.0, rise, fall)


def set_rates(optimizer, progress):
    risen = min(1.0, (progress + 1e-3) / (MOMENTUM_RISE + 1e-3))
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * schedule(progress)
        if "momentum" in group:
            group["momentum"] = FIRST_MOMENTUM + (MOMENTUM - FIRST_MOMENTUM) * risen
            group["decay"] = WEIGHT_DECAY * (1.0 - progress)


def micro_batch(model, run):  # rows that fit on the device at once, a divisor of the batch
    batch = max(1, BATCH_TOKENS // run.sequence_length)
    if not on_gpu(run):
        return batch
    memory = 0.75 * torch.cuda.get_device_properties(run.device).total_memory
    memory -= 6 * sum(p.nbytes for p in model.parameters())  # with gradients and states
    row = run.sequence_length * (44 * DEPTH * WIDTH + 8 * run.vocab_size)  # bytes of activations
    return max(d for d in range(1, batch + 1) if batch % d == 0 and (d == 1 or d * row < memory))


def use_flex_attention(model, T, device):  # in training, for layers that see a window
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def within(window):
        return lambda b, h, query, key: (query >= key) & (query - key < window)

    masks = {}
    for module in model.modules():
        window = getattr(module, "window", T)
        if window < T:
            if window not in masks:
                masks[window] = create_block_mask(within(window), None, None, T, T, device=device)
            module.windowed = partial(flex_attention, block_mask=masks[window])


def training_loss(model, run):  # (x, y), int64 (B, T) each -> mean nats per token
    def loss_of(x, y):
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten())

    if not on_gpu(run):
        return loss_of
    torch.set_float32_matmul_precision("high")
    device = torch.cuda.get_device_properties(run.device)
    if getattr(device, "shared_memory_per_block_optin", 0) > 140_000:  # else its kernels do not fit
        use_flex_attention(model, run.sequence_length, run.device)
    return torch.compile(loss_of, dynamic=False)


def warm_up(run, model, optimizer, loss_of, rows):
    """Compile and try everything before the clock; leave weights and optimizer as they were."""
    kept = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        # two tensors: a step that was compiled for one that is given twice would be compiled again
        loss_of(run.warmup_tokens(rows), run.warmup_tokens(rows)).backward()
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
    gc.disable()
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
