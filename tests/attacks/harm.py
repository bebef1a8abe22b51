"""Programs that would take the machine, the disk or the neighbours with them."""

from population.task import Limits
from tests.attacks.attack import BRIEF, HONEST, Attack
from tests.evaluate.conftest import program

MEMORY = ("startup out_of_memory", "startup memory_limit", "startup killed")
DISK = ("startup disk_limit", "training disk_limit", "handin disk_limit", "startup file_limit")
SMALL = Limits(memory_bytes=256 << 20, startup_s=15, scoring_s=20)
FEW = Limits(processes=12, startup_s=3, scoring_s=20)

DAEMON = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    if os.fork() == 0:
        os.execvp("python3", ["python3", "-c", "import time; time.sleep(300)  # left by @PID@"])
    os._exit(0)
time.sleep(0.2)
"""

FORKED_HOARDS = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        hoard = bytearray(os.urandom(1 << 10)) * (100 << 10)
        time.sleep(60)
time.sleep(60)
"""

FILES_IN_MEMORY = """
import os, time
kept = []
for _ in range(16):
    kept.append(os.memfd_create("hoard"))
    for _ in range(64):
        os.write(kept[-1], bytes(1 << 20))
time.sleep(1.5)
"""

SHARED_WITHOUT_A_FILE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, *[ctypes.c_size_t] * 5]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
SIZE, SHARED, WITHOUT_A_FILE = 50 << 20, 1, 32
def keep(flags, descriptor):
    for _ in range(14):
        place = libc.mmap(None, SIZE, {prot}, flags, descriptor, 0)
        if place == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")
        for at in range(0, SIZE, 4096): ctypes.c_char.from_address(place + at).value
        libc.munmap(place + 4096, SIZE - 4096)  # the pages stay, and nobody has them
    print("got through")
try: keep(SHARED | WITHOUT_A_FILE, 0)
except OSError as error: print("held:", error)
for mode in (os.O_RDWR, os.O_RDONLY):
    try: keep(SHARED, os.open("/dev/zero", mode))
    except OSError as error: print("held:", error)
""".replace("{prot}", "1")

FILES_OF_FULL_SIZE = """
import os
print("made in", os.getcwd())
for number in range(24):
    with open(f"hoard{number}", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 256 << 20)
"""

MANY_FILES = """
import os
print("made in", os.getcwd())
for number in range(30_000):
    os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY))
"""

DEEP = """
import os
print("made in", os.getcwd(), flush=True)
home = os.open(".", os.O_RDONLY)
for _ in range(5_000):
    os.mkdir("d")
    os.chdir("d")
os.fchdir(home)
"""

CLOSED_FOLDERS = """
import os
print("made in", os.getcwd())
os.makedirs("a/b")
open("a/b/c\\n\\x1b[31m", "w").close()
os.chmod("a/b", 0)
os.chmod("a", 0)
"""

LINKS = """
import os
print("made in", os.getcwd())
os.symlink("@VICTIM@", "out")
os.symlink("@VICTIM@/lineage.duckdb", "lineage")
os.symlink("..", "up")
os.makedirs("best")
os.symlink("@VICTIM@", "best/victim")
for attempt in ("out/lineage.duckdb", "lineage", "out/new"):
    try: open(attempt, "w").write("mine")
    except OSError as error: print("held:", error)
"""

SPEAKING_ON = """
import os, sys
if os.fork() == 0:
    while True:
        os.write(1, b"still here\\n" * 100)
os._exit(0)
"""

HIDDEN_WORK = """
import os, signal
try: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
except OSError as error: print("held:", error)
for _ in range(30):  # each is too short to be seen by whoever looks now and then
    if os.fork() == 0:
        while os.times().user < 0.03: pass
        os._exit(0)
    try: os.wait()
    except ChildProcessError: pass
"""

SIGNALS = """
import os, signal
for victim in (0, -1, os.getppid(), -os.getpgid(0), @PID@, -@PID@):
    for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
        try: os.kill(victim, number)
        except OSError as error: print("held:", error)
"""


def before(statements: str) -> str:
    """Return the honest program, which does something first."""
    return program(before_clock=statements)


ATTACKS = {
    "processes that make processes": Attack(
        before("import os\nwhile True:\n    os.fork()\n"), "startup process_limit", limits=FEW
    ),
    "processes that make processes whatever is said": Attack(
        before("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"),
        "startup startup_limit", limits=FEW,
    ),
    "threads without end": Attack(
        before("import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(60,)).start()\n"),
        ("startup process_limit", *MEMORY), limits=FEW,
    ),
    "memory without end": Attack(
        before("hoard = []\nwhile True:\n    hoard.append(torch.ones(1 << 22))\n"), MEMORY, limits=SMALL
    ),
    "memory without end, whatever is said": Attack(
        before("hoard = []\nwhile True:\n    try: hoard.append(bytearray(1 << 22))\n    except MemoryError: pass\n"),
        ("startup startup_limit", *MEMORY), limits=Limits(memory_bytes=256 << 20, startup_s=3),
    ),
    "memory over many processes": Attack(
        before(FORKED_HOARDS), MEMORY, limits=SMALL,
    ),
    "memory in files without a name": Attack(
        before(FILES_IN_MEMORY), ("startup crash", *MEMORY), limits=SMALL,
    ),
    "memory that is shared and belongs to nobody": Attack(
        before(SHARED_WITHOUT_A_FILE), HONEST, limits=Limits(memory_bytes=512 << 20), says="held:",
    ),
    "one file larger than allowed": Attack(
        before("open('big', 'wb').write(bytes(2 << 20))\n"), DISK, limits=Limits(file_bytes=1 << 20)
    ),
    "many files as large as allowed": Attack(
        before(FILES_OF_FULL_SIZE), DISK,
    ),
    "thirty thousand files": Attack(before(MANY_FILES), (HONEST, *DISK)),
    "a tree of five thousand folders": Attack(
        before(DEEP), (HONEST, *DISK),
    ),
    "folders that nobody may enter": Attack(before(CLOSED_FOLDERS), HONEST),
    "links to what others own": Attack(before(LINKS), HONEST, says="held:"),
    "a lineage edited by its path": Attack(
        before("try: open('@VICTIM@/lineage.duckdb', 'r+').write('mine')\nexcept OSError as e: print('held:', e)\n"),
        HONEST, says="held:",
    ),
    "a log without end": Attack(
        before("while True: print('x' * 10_000)\n"), "startup log_limit",
        limits=Limits(log_bytes=1 << 20),
    ),
    "a log that draws on terminals": Attack(before("print('\\x1b]0;mine\\x07\\x1b[2J\\0\\xff')\n"), HONEST),
    "a log that nobody can write to": Attack(
        program(at_bell="import os\nos.close(1); os.close(2)\n"), ("handin no_handin", "handin crash", HONEST)
    ),
    "a daemon": Attack(before(DAEMON), HONEST),
    "a child that speaks on after its parent's death": Attack(
        before(SPEAKING_ON), ("startup no_handin", "startup log_limit")
    ),
    "a child that hands in after its parent's death": Attack(
        program(at_bell="import os, time\nif os.fork(): os._exit(0)\ntime.sleep(0.5)\n"),
        "handin no_handin",
    ),
    "signals to everybody": Attack(before(SIGNALS), HONEST, says="held:"),
    "a program that stops itself": Attack(
        before("import os\nif os.fork() == 0:\n    os.kill(os.getppid(), 19)\n    os._exit(0)\n"),
        ("startup startup_limit", HONEST), limits=BRIEF,
    ),
    "a program that ignores every signal": Attack(
        before("import signal, time\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\ntime.sleep(60)\n"),
        "startup startup_limit", limits=BRIEF,
    ),
    "work that hides from its account": Attack(
        before(HIDDEN_WORK), HONEST, processor_s=0.5,
    ),
    **{
        f"a name of its own, {name}": Attack(
            before(f"import ctypes\nctypes.CDLL(None).prctl(15, {text!r})\nimport time; time.sleep(0.5)\n"),
            HONEST,
        )
        for name, text in {"no text": b"\xff\xfe", "like a size": b"evil kB", "like a line": b")\nRssAnon: 1"}.items()
    },
    "keys in the environment": Attack(
        program(first="import os\nprint('got through' if 'EVOLVE_ATTACK_KEY' in os.environ else 'held:')\n"),
        HONEST, says="held:",
    ),
    "a dump of its memory": Attack(
        before("import os, resource\ntry: resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))\nexcept (OSError, ValueError) as e: print('held:', e)\nos.abort()\n"),
        "startup crash", says="held:",
    ),
    "a limit raised": Attack(
        before("import resource\ntry: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nexcept (OSError, ValueError) as e: print('held:', e)\n"),
        HONEST, says="held:",
    ),
}  # fmt: skip
