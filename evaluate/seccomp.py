"""Which system calls a jailed process may make: a filter that its children inherit.

Refused (EPERM) are those that undo the clock, inspect others, mount, make namespaces, hold memory
that no limit sees (in pipes, in messages on their way, in files), or load code into the kernel.
Some answers differ, so that honest programs go on:

- `clone3` does not exist (ENOSYS): its flags lie in memory, where a filter cannot read them, and
  libc falls back to `clone`.
- `mmap` of memory that is shared and has no file is refused (EPERM) where no accelerator's driver
  may need it: its pages stay when all but one of them are unmapped, and belong to no process that
  could be asked. Private memory and files can be mapped.
- Changes of modes, owners, times and attributes succeed and do nothing: Landlock leaves them alone,
  and whoever runs as the harness's user owns the harness's files. Copying a file changes modes.
- `rt_sigaction` leaves SIGCHLD as it is and says that it succeeded, since shells ask for it:
  children of a process that ignores it are reaped by the kernel, and nobody is told of their
  processor time, which then looks like a neighbour's.
- `prlimit64` sees and sets one's own limits alone: those of another process of the same user would
  be a way to end it that no rule about signals covers.
- `fallocate` is not supported (EOPNOTSUPP): libc writes instead, which takes time in which the disk
  is watched.
"""

import ctypes
import os
import struct

SYSCALLS = {
    "x86_64": (0xC000003E, {
        "socket": 41, "socketpair": 53, "memfd_create": 319, "memfd_secret": 447,
        "clone": 56, "clone3": 435, "prctl": 157,
        "sched_setaffinity": 203, "sched_setscheduler": 144, "sched_setattr": 314,
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "process_madvise": 440,
        "pidfd_getfd": 438, "kcmp": 312, "perf_event_open": 298, "bpf": 321, "userfaultfd": 323,
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "open_tree": 428,
        "open_tree_attr": 467, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
        "fspick": 433, "mount_setattr": 442, "unshare": 272, "setns": 308,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "io_uring_setup": 425,
        "keyctl": 250, "add_key": 248, "request_key": 249,
        "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240, "mmap": 9, "rt_sigaction": 13,
        "init_module": 175, "finit_module": 313, "delete_module": 176,
        "kexec_load": 246, "kexec_file_load": 320,
        "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452,
        "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
        "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "setxattrat": 463,
        "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "removexattrat": 466,
        "file_setattr": 469,
        "fallocate": 285, "sendmsg": 46, "sendmmsg": 307, "vmsplice": 278, "io_setup": 206,
        "setpriority": 141, "ioprio_set": 251, "prlimit64": 302,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "socketpair": 199, "memfd_create": 279, "memfd_secret": 447,
        "clone": 220, "clone3": 435, "prctl": 167,
        "sched_setaffinity": 122, "sched_setscheduler": 119, "sched_setattr": 274,
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "process_madvise": 440,
        "pidfd_getfd": 438, "kcmp": 272, "perf_event_open": 241, "bpf": 280, "userfaultfd": 282,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "open_tree": 428,
        "open_tree_attr": 467, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
        "fspick": 433, "mount_setattr": 442, "unshare": 97, "setns": 268,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "io_uring_setup": 425,
        "keyctl": 219, "add_key": 217, "request_key": 218,
        "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180, "mmap": 222,
        "rt_sigaction": 134,
        "init_module": 105, "finit_module": 273, "delete_module": 106,
        "kexec_load": 104, "kexec_file_load": 294,
        "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54,
        "utimensat": 88,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "setxattrat": 463,
        "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16, "removexattrat": 466,
        "file_setattr": 469,
        "fallocate": 47, "sendmsg": 211, "sendmmsg": 269, "vmsplice": 75, "io_setup": 0,
        "setpriority": 140, "ioprio_set": 30, "prlimit64": 261,
    }),
}  # fmt: skip
_CHANGES = """
chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat
setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
file_setattr
"""
WITHOUT_EFFECT = frozenset(_CHANGES.split())
_NEW_NAMESPACE = 0x7E020000  # CLONE_NEW* of `clone`: mount, cgroup, uts, ipc, user, pid, network
_SET_PDEATHSIG = 1  # a candidate that outlives its guard would be nobody's
_SET_DUMPABLE = 4  # a process that is not could hide its memory and files from `tree.py`
_SHARED_ANONYMOUS = 0x21  # MAP_SHARED with MAP_ANONYMOUS, in the flags of `mmap`
_SIGCHLD = 17
_X32_CALLS = 0x40000000  # a second table of x86-64, by which every call could be reached again

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _DONE = 0x7FFF0000, 0x80000000, 0x00050000
_REFUSE, _ABSENT, _UNSUPPORTED = _DONE | 1, _DONE | 38, _DONE | 95
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_FIRST_ARGUMENT, _SECOND_ARGUMENT, _SECOND_ARGUMENTS_END, _FOURTH_ARGUMENT = 16, 24, 28, 40

Instruction = tuple[int, int, int, int]


def program(machine: str, *, sockets: bool, memfd: bool, shared: bool) -> list[Instruction]:
    """Return the filter for a machine's name, as (code, jump if true, jump if false, operand).

    Args:
        machine: `x86_64` or `aarch64`.
        sockets: leave sockets alone: an accelerator's driver may need them. Elsewhere none can be
            made: those of other programs with a path cannot be reached, and what lies in a
            socket's buffer is memory that no limit counts. The inherited one works.
        shared: leave `mmap` alone: an accelerator's driver may need memory that is shared.
        memfd: leave `memfd_create` and `sendmsg` alone: the feeder lends such memory.
    """
    architecture, known = SYSCALLS[machine]
    spared = {"socket", "socketpair"} if sockets else set()
    spared |= {"memfd_create", "sendmsg"} if memfd else set()
    spared |= {"mmap"} if shared else set()
    tail: list[Instruction] = [
        (_ANSWER, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),  # clone
        (_ANY_BIT, 5, 4, _NEW_NAMESPACE),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),  # prctl
        (_EQUAL, 3, 0, _SET_PDEATHSIG),
        (_EQUAL, 2, 1, _SET_DUMPABLE),
        (_ANSWER, 0, 0, _ABSENT),
        (_ANSWER, 0, 0, _ALLOW),
        (_ANSWER, 0, 0, _REFUSE),
        (_ANSWER, 0, 0, _DONE),
        (_ANSWER, 0, 0, _UNSUPPORTED),
        (_LOAD, 0, 0, _FOURTH_ARGUMENT),  # mmap
        (_AND, 0, 0, _SHARED_ANONYMOUS),
        (_EQUAL, 0, 1, _SHARED_ANONYMOUS),
        (_ANSWER, 0, 0, _REFUSE),
        (_ANSWER, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),  # rt_sigaction
        (_EQUAL, 0, 4, _SIGCHLD),
        (_LOAD, 0, 0, _SECOND_ARGUMENT),  # none: it only asks
        (_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _SECOND_ARGUMENTS_END),
        (_EQUAL, 0, 1, 0),
        (_ANSWER, 0, 0, _ALLOW),
        (_ANSWER, 0, 0, _DONE),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),  # prlimit64: of 0, itself
        (_EQUAL, 0, 1, 0),
        (_ANSWER, 0, 0, _ALLOW),
        (_ANSWER, 0, 0, _REFUSE),
    ]
    refuse, done = 8, 9  # where they begin in the tail
    others = {"clone": 1, "prctl": 3, "clone3": 6, "fallocate": 10, "mmap": 11, "rt_sigaction": 16}
    others["prlimit64"] = 24
    others |= dict.fromkeys(WITHOUT_EFFECT, done)
    rules = [
        (_AT_LEAST, _X32_CALLS, refuse),
        *(
            (_EQUAL, known[name], others.get(name, refuse))
            for name in sorted(known.keys() - spared)
        ),
    ]
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_ANSWER, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        *(
            (code, len(rules) - 1 - position + target, 0, operand)
            for position, (code, operand, target) in enumerate(rules)
        ),
        *tail,
    ]


def install(*, sockets: bool, memfd: bool, shared: bool) -> bool:
    """Filter the calling process from here on; return whether the kernel took the filter."""
    machine = os.uname().machine
    if machine not in SYSCALLS:
        return False
    rows = program(machine, sockets=sockets, memfd=memfd, shared=shared)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
    header = struct.pack("@HP", len(rows), ctypes.addressof(code))
    return bool(ctypes.CDLL(None, use_errno=True).prctl(22, 2, header, 0, 0) == 0)
