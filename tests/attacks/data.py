"""Reading what is scored, and what belongs to others."""

from tests.attacks.attack import HONEST, Attack, denied
from tests.evaluate.conftest import program

INHERITED = """
import os
found = []
for descriptor in range(3, 1024):
    try:
        kind = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        kind = "?"
    if "memfd:tensors" in kind:
        continue  # lent to it, and its own to write
    try:
        if os.pread(descriptor, 1 << 20, 0):
            found.append((descriptor, kind))
    except OSError:
        pass
print("got through:" if found else "held:", found)
"""

TEXT_IN_MEMORY = """
import gc, numpy
arrays = [o for o in gc.get_objects() if isinstance(o, numpy.ndarray) and o.nbytes > 100_000]
gc.unfreeze()
arrays += [o for o in gc.get_objects() if isinstance(o, numpy.ndarray) and o.nbytes > 100_000]
print("got through:" if arrays else "held:", len(arrays))
"""

ATTACKS = {
    "the shard by its path": denied("return open('@DATA@/selection/tokens.npy', 'rb').read(9)"),
    "the training text by its path": denied("return open('@DATA@/train/tokens.npy', 'rb').read(9)"),
    "the shard through a descriptor that only names its folder": denied(
        "folder = os.open('@DATA@', os.O_PATH)\n"
        "return os.read(os.open('selection/tokens.npy', os.O_RDONLY, dir_fd=folder), 9)"
    ),
    "the shard through a link": denied(
        "os.symlink('@DATA@/selection/tokens.npy', 'mine')\nreturn open('mine', 'rb').read(9)"
    ),
    "the shard through a second name": denied("os.link('@DATA@/selection/tokens.npy', 'mine')"),
    "the shard by the name of its inode": denied(
        "handle = ctypes.create_string_buffer(b'\\x80\\0\\0\\0' + bytes(132))\n"
        "folder = os.open('/usr', os.O_RDONLY)\n"
        "return system_call(304, folder, handle, 0)"
    ),
    "the shard as another root": denied("os.chroot('/')"),
    "the shard through another program": denied(
        "import subprocess\n"
        "found = subprocess.run(['cat', '@DATA@/selection/tokens.npy'], capture_output=True)\n"
        "if found.returncode: raise OSError(found.stderr)\n"
        "return found.stdout"
    ),
    "the harness's files through /proc": denied("return os.listdir('/proc/@PID@/root')"),
    "its first process through /proc": denied("return os.listdir('/proc/1/root')"),
    "its parent through /proc": denied("return open(f'/proc/{os.getppid()}/environ').read()"),
    "its own descriptors through /proc": denied("return os.listdir('/proc/self/fd')"),
    "its own memory map": denied("return open('/proc/self/maps').read()"),
    "shared memory with a name": denied("return os.listdir('/dev/shm')"),
    "shared memory of its own with a name": denied(
        "from multiprocessing import shared_memory\n"
        "return shared_memory.SharedMemory(create=True, size=9)"
    ),
    "shared memory of System V": denied("return system_call(29, 1, 4096, 0o1666)"),
    "the trusted copy of the evaluator": denied("return open('../trusted/prepare.py').read()"),
    "the folders of other trials": denied("return os.listdir('..')"),
    "the lock of its own trial": denied("os.unlink('../lock')"),
    "keys in the home of whoever runs it": denied("return os.listdir('/root')"),
    "accounts of this machine": denied("return open('/etc/passwd').read()"),
    "a program that may read what its caller may not": denied(
        "import subprocess\n"
        "found = subprocess.run(['/usr/bin/su', '-c', 'id'], capture_output=True)\n"
        "if found.returncode: raise OSError(found.stderr)"
    ),
    "descriptors that it inherits": Attack(program(before_clock=INHERITED), HONEST, says="held:"),
    "arrays that it inherits": Attack(program(before_clock=TEXT_IN_MEMORY), HONEST, says="held:"),
}  # fmt: skip
