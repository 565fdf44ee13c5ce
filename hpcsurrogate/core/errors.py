"""Every error a user can meet, with the exit code the command line gives it.

A message is one line: what went wrong, where (file, key, line, rank) and what to do.
"""


class HpcsurrogateError(Exception):
    """Base of all errors that end a command without a traceback.

    Attributes
    ----------
    exit_code : int             what the shell sees
    from_rank : int or None     the rank that met it, where all ranks raise the error of one
    """

    exit_code = 1
    from_rank: int | None = None


class ConfigError(HpcsurrogateError):
    """The command line or the YAML file asks for something that does not exist or cannot be."""

    exit_code = 2


class ShapeError(ConfigError):
    """An array or a grid has a shape that an operation cannot take."""


class DataError(HpcsurrogateError):
    """A shard, catalogue or stage output is damaged, missing, or holds values it must not hold."""

    exit_code = 3


class DivergedError(HpcsurrogateError):
    """A simulation or a training run produced non-finite values or broke its stability condition."""

    exit_code = 4


class ModelRefusedError(HpcsurrogateError):
    """An artifact or a checkpoint does not hold what its manifest promises."""

    exit_code = 5


class RankLostError(HpcsurrogateError):
    """A rank was lost, hung, or is not where the launcher promised it."""

    exit_code = 6


class RequeueRequested(HpcsurrogateError):
    """The state was checkpointed on request; the job wants to be queued again."""

    exit_code = 75
