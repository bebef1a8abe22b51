"""More training than the budget allows."""

from population.task import Budget, BudgetKind
from tests.attacks.attack import BRIEF, HONEST, Attack
from tests.evaluate.conftest import MODEL, TRAIN, program

BRIEF_BUDGET = Budget(BudgetKind.SECONDS, 1.2, room_s=0.4)
TOKENS = Budget(BudgetKind.TOKENS, 5 * 4 * 128, wall_limit_s=20)

FROZEN = """
import time
for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
    setattr(time, name, lambda: 0.0)
for name in ("time_ns", "monotonic_ns", "perf_counter_ns"):
    setattr(time, name, lambda: 0)
"""

STEP = """
def step(x, y):
    F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
    optimizer.step()
    optimizer.zero_grad()
"""

REMEMBERED = STEP.join((
    "kept = []\n", """
import time
end = time.monotonic() + 1.5
while time.monotonic() < end:
    step(*kept[0])
"""))  # fmt: skip

LIBRARY = """
import pathlib, time
text = b"".join(p.read_bytes() for p in sorted(pathlib.Path(torch.__file__).parent.glob("*.py")))
""" + STEP + """
size = 4 * (run.sequence_length + 1)
end = time.monotonic() + 2.5
while time.monotonic() < end:
    rows = torch.frombuffer(bytearray(text[:size]), dtype=torch.uint8).view(4, -1).long()
    text = text[size:]
    step(rows[:, :-1], rows[:, 1:])
"""  # fmt: skip

SECOND_PROCESS = """
import time
if os.fork() == 0:
    time.sleep(1.0)
    while True:
        run._memory[:] = bytes(len(run._memory))
"""

PADDED = MODEL.replace(
    "        self.embedding",
    """\
        padding = torch.zeros(1, dtype=torch.uint8).expand(512 << 20)
        self.padding = nn.Parameter(padding, requires_grad=False)
        self.embedding""",
).replace("return self", "return self.padding[0] + self")
# What is copied in the order of declaration reaches the weights only after the padding.

WRITTEN_LATER = """
import os, time
names = dict(model.named_parameters())
os.write(1, b"announced\\n")  # first: it may be dead a moment after what follows
run._send(b"D", b"")
time.sleep({delay_s})
for row, offset, size in run._table:
    if row["name"] != "padding":
        data = names[row["name"]].detach()
        place = torch.frombuffer(run._memory, dtype=data.dtype, count=data.numel(), offset=offset)
        place.copy_(data.reshape(-1))
time.sleep(60)
"""
ZEROS = "for p in model.parameters(): p.data.zero_()\n"

PREFETCHED = TRAIN.replace("for x, y in run.batches(4):", """
import queue, threading
ready = queue.Queue()
def ask():
    for batch in run.batches(4):
        ready.put(batch)
    ready.put(None)
threading.Thread(target=ask).start()
for x, y in iter(ready.get, None):
""").replace("    run.report(loss)\n", "")  # fmt: skip

ATTACKS = {
    "stopped clocks": Attack(program(first=FROZEN), HONEST),
    "stopped clocks and a late hand-in": Attack(
        program(at_bell="import select\nselect.select([], [], [], 1.0)\n" + FROZEN),
        "handin late",
        BRIEF_BUDGET,
    ),
    "training before the clock on what libraries say": Attack(
        program(before_clock=LIBRARY), "handin late", BRIEF_BUDGET
    ),
    "training on remembered batches after the bell": Attack(
        program(before_clock="kept = []\n", in_loop="    kept.append((x, y))\n", at_bell=REMEMBERED.removeprefix("kept = []\n")),
        "handin late",
        BRIEF_BUDGET,
    ),
    "one batch for the whole budget": Attack(
        program(in_loop="    import time; time.sleep(1.5)\n"), "handin late", BRIEF_BUDGET
    ),
    "waiting for the end of the world": Attack(
        program(at_bell="while True: pass\n"), "handin late", BRIEF_BUDGET
    ),
    "all batches asked for by a thread that does not wait for the training": Attack(
        program(train=PREFETCHED), HONEST
    ),
    "a second process that writes after the hand-in": Attack(
        program(at_bell="import os" + SECOND_PROCESS), HONEST
    ),
    "weights that are written after the hand-in, behind a padding that takes long to copy": Attack(
        program(PADDED, at_bell=WRITTEN_LATER.format(delay_s=0.3)), HONEST,
        base=program(PADDED, at_bell=ZEROS), says="announced",
    ),
    "training on noise before the clock": Attack(
        program(before_clock="run.warmup_tokens(4)\nfor _ in range(3): model(run.warmup_tokens(4))\n"),
        HONEST, within=0.05,
    ),
    "another model registered after the bell": Attack(
        program(at_bell="run.register(model)\n"), "handin protocol"
    ),
    "a second delivery": Attack(
        program(at_bell="""
send = run._send
run._send = lambda kind, payload: [send(kind, payload) for _ in range(2)]
"""), HONEST,
    ),
    "batches asked for after the bell": Attack(
        program(at_bell="for _ in range(50):\n    for x, y in run.batches(1 << 10): raise SystemExit('fed')\n"),
        HONEST,
    ),
    "a first batch that holds the whole text, under a budget in tokens": Attack(
        program(train=TRAIN.replace("run.batches(4)", "run.batches(5_000)").replace(
            "    loss =", "    x, y = x[:4], y[:4]\n    loss =")),
        ("training protocol", "startup protocol"), TOKENS,
    ),
    "a hand-in without any batch, after training on what libraries say": Attack(
        program(train=TRAIN.replace("for x, y in run.batches(4):", LIBRARY + "for x, y in ():")),
        "handin late", BRIEF_BUDGET,
    ),
    "training on after the bell of a budget in steps, asking for more meanwhile": Attack(
        program(before_clock="kept = []\n", in_loop="    kept.append((x, y))\n",
                at_bell=REMEMBERED.removeprefix("kept = []\n").replace(
                    "    step(*kept[0])", "    step(*kept[0]); [0 for _ in run.batches(4)]")),
        "handin late",
    ),
    "training before the clock of a budget in steps": Attack(
        program(before_clock=LIBRARY), "startup startup_limit", limits=BRIEF,
    ),
    "training on after the bell of a budget in steps": Attack(
        program(before_clock="kept = []\n", in_loop="    kept.append((x, y))\n", at_bell=REMEMBERED.removeprefix("kept = []\n")),
        "handin late",
    ),
}  # fmt: skip
