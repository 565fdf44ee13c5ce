"""What several commands share: their arguments, and how the command line was called."""

import os
from dataclasses import dataclass

import click

EXPERIMENT = click.argument("file", metavar="FILE")
OVERRIDES = click.argument("overrides", metavar="[SECTION.KEY=VALUE]...", nargs=-1)
LOCKED = click.option("--locked", is_flag=True, hidden=True, help="`run` started this process and holds the lock.")


class Part(click.ParamType):
    """Two whole numbers: which part, and of how many."""

    name = "part"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, _, count = value.partition("/")
        if not (number.isdecimal() and count.isdecimal()):
            self.fail(f"'{value}' is no part such as 3/16", param, context)
        return int(number), int(count)


@dataclass(frozen=True)
class Invocation:
    """How the command line was called.

    Attributes
    ----------
    verbose : bool           print debug lines too
    is_own_process : bool    this process does nothing else, so that a guard may take its place
    """

    verbose: bool
    is_own_process: bool

    def guard(self, locked: bool) -> None:
        """Put a guard in front of a stage, before anything is loaded that has threads: MPI, torch, numpy."""
        if self.is_own_process:
            from hpcsurrogate.parallel.guard import started_by_launcher, watch_over_this_process

            watch_over_this_process(bound_to_parent=locked or started_by_launcher(os.environ))
