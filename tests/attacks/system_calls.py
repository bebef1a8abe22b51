"""Calls that undo a limit, widen the world or reach others; numbers are those of x86-64."""

import platform

from tests.attacks.attack import Attack, denied

NEW_USER = 0x1000_0000

CALLS = {
    "all cores": "os.sched_setaffinity(0, range(os.cpu_count()))",
    "a priority above others": "os.setpriority(os.PRIO_PROCESS, 0, -10)",
    "a class of scheduling above others": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "a class of scheduling, by its other call": (
        "system_call(314, 0, (48).to_bytes(4, 'little') + (1).to_bytes(4, 'little') + bytes(12)"
        " + (1).to_bytes(4, 'little') + bytes(24), 0)"
    ),
    "a priority above others, for disks": "system_call(251, 1, 0, 0)",
    "pages in a pipe": "system_call(278, 1, 0, 0, 0)",
    "another user": "os.setuid(0)",
    "another group": "os.setgid(0)",
    "a connection": "__import__('socket').create_connection(('127.0.0.1', 22), 1)",
    "descriptors on their way": (
        "__import__('socket').send_fds(__import__('socket').socket(fileno=os.dup("
        "int(os.environ['EVOLVE_SOCKET']))), [b'x'], [0])"
    ),
    "a packet": "__import__('socket').socket(2, 2).sendto(b'x', ('127.0.0.1', 9))",
    "a raw packet": "__import__('socket').socket(17, 3)",
    "a netlink socket": "__import__('socket').socket(16, 3)",
    "a socket with a path": "__import__('socket').socket(1, 1).connect('/tmp/some.sock')",
    "a socket with an abstract name": "__import__('socket').socket(1, 1).connect('\\0some')",
    "a namespace of its own": f"system_call(272, {NEW_USER})",
    "the namespace of another": "system_call(308, 0, 0)",
    "a mount": "system_call(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
    "a mount, by its newer calls": "system_call(430, b'tmpfs', 0)",
    "a tree of mounts": "system_call(428, -100, b'/', 1)",
    "another root": "system_call(155, b'.', b'.')",
    "a trace of another": "system_call(101, 16, @PID@, 0, 0)",
    "a trace of its parent": "system_call(101, 16, os.getppid(), 0, 0)",
    "the memory of another": "system_call(310, @PID@, 0, 0, 0, 0, 0)",
    "a descriptor of another": "system_call(438, 0, 0, 0)",
    "a handle on another": "os.pidfd_open(@PID@)",
    "a signal to the harness": "os.kill(@PID@, 0)",
    "a limit of the harness": "__import__('resource').prlimit(@PID@, 7, (1, 1))",
    "calls without calls": "system_call(425, 8, bytes(120))",
    "a program in the kernel": "system_call(321, 0, bytes(128), 128)",
    "counters of the processor": "system_call(298, bytes(128), 0, -1, -1, 0)",
    "keys of the kernel": "system_call(250, 0, -3, 1)",
    "a queue of messages": "system_call(68, 1, 0o1666)",
    "a semaphore": "system_call(64, 1, 1, 0o1666)",
    "faults of its own": "system_call(323, 0)",
    "a name for this machine": "system_call(170, b'mine', 4)",
    "the time of day": "__import__('time').clock_settime(0, 0)",
    "swap": "system_call(168, b'/dev/zero')",
    "a module of the kernel": "system_call(313, 0, b'', 0)",
    "a restart": "system_call(169, 0xfee1dead, 672274793, 0x1234567, 0)",
    "the log of the kernel": "system_call(103, 3, bytes(99), 99)",
    "calls of another architecture": "system_call(0x40000000 + 39)",
    "a device": "open('/dev/vda', 'rb')",
    "a terminal": "open('/dev/tty', 'w')",
    "a file beside its folder": "open('/tmp/left', 'w')",
    "a file among the libraries": "open(os.path.dirname(os.__file__) + '/left.py', 'w')",
    "control groups": "open('/sys/fs/cgroup/cgroup.procs', 'w').write('0')",
}

CLONE = """
child = system_call(56, {flags}, 0, 0, 0, 0)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
return child
"""

CLONE_3 = """
arguments = ({flags}).to_bytes(8, "little") + bytes(24) + (17).to_bytes(8, "little") + bytes(48)
child = system_call(435, arguments, 88)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
return child
"""

CHANGE = """
def state():
    names = "@VICTIM@", "@VICTIM@/lineage.duckdb"
    return [(os.stat(n)[:6], os.stat(n).st_mtime, os.listxattr(n)) for n in names]
before = state()
{call}
if state() == before:
    raise OSError("nothing changed")
"""
OTHERS = {
    "who may read what others own": "os.chmod('@VICTIM@', 0o777)",
    "when others wrote what they own": "os.utime('@VICTIM@/lineage.duckdb', (1, 1))",
    "a note on what others own": "os.setxattr('@VICTIM@/lineage.duckdb', 'user.mine', b'mine')",
    "who owns what others own": "os.chown('@VICTIM@', os.getuid(), 1)",
}

ATTACKS: dict[str, Attack] = {}
if platform.machine() == "x86_64":
    ATTACKS = {
        **{name: denied(f"return {call}") for name, call in CALLS.items()},
        **{name: denied(CHANGE.format(call=call)) for name, call in OTHERS.items()},
        "a user namespace for a child": denied(CLONE.format(flags=NEW_USER | 17)),
        "a user namespace for a child, by the newer call": denied(CLONE_3.format(flags=NEW_USER)),
    }
