"""The exception tree.

    EvolveError                 anything that a user of the system may meet
    |-- TaskError               task.toml, evaluator, seeds or program.md is missing or wrong
    |   `-- EvaluatorError      the evaluator's code fails, or gives what it must not give
    |-- DataError               the task's data is missing, damaged or another version
    |-- RunError                a run directory cannot be used (other task, other evaluator, locked)
    |-- LineageError            the database refuses: no disk, other schema, held by another process
    |-- PoolError               no device fits, Ray does not answer, a worker cannot be reached
    `-- SandboxError            a required layer of the sandbox is missing on this machine

A bad candidate is not an exception: it is a `Failed` outcome. Messages say what was expected,
what came, and what to do about it.
"""


class EvolveError(Exception):
    """Root of all errors that name a cause and a remedy; the command line prints them plainly."""


class TaskError(EvolveError):
    """The task folder cannot be used as it is."""


class EvaluatorError(TaskError):
    """The evaluator fails whatever program is scored: no candidate's fault, and no machine's."""


class DataError(EvolveError):
    """The task's data is missing, damaged or not the data of this run."""


class RunError(EvolveError):
    """The run directory cannot be created, opened or continued."""


class LineageError(EvolveError):
    """The lineage cannot be written or read."""


class PoolError(EvolveError):
    """Training cannot be scheduled."""


class SandboxError(EvolveError):
    """The sandbox that was asked for cannot be had."""
