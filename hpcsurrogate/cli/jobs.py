"""The commands around whole experiments: jobs of a batch system, where a run stands, many trainings."""

import click

from hpcsurrogate.cli.arguments import EXPERIMENT, OVERRIDES, Invocation


class NumbersOfRanks(click.ParamType):
    """Whole numbers with commas between them."""

    name = "numbers"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"'{value}' are no numbers of ranks such as 1,2,4", param, context)
        return tuple(int(part) for part in parts)


@click.command(short_help="queue the stages that are missing as SLURM jobs")
@EXPERIMENT
@OVERRIDES
@click.option("--dry-run", is_flag=True, help="Print the batch scripts instead.")
def submit(file: str, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Queue the stages that are missing as SLURM jobs, each after the one before it.

    A training that reaches its time limit checkpoints and is queued again. The section `slurm` of FILE says what to
    ask for.
    """
    from hpcsurrogate.pipeline.submit import submit_experiment

    submit_experiment(file, overrides, dry_run, say=click.echo)


@click.command(short_help="what is done, running or queued, the last loss, time left")
@click.argument("run", metavar="FILE|DIR")
def status(run: str) -> None:
    """Print what is done, running or queued, the last step and loss, and the time left.

    Given an experiment or its run directory. It only reads, so it can be asked at any time.
    """
    from hpcsurrogate.pipeline.status import run_status

    run_status(run, say=click.echo)


@click.command(short_help="search over keys of the file, each trial a training")
@EXPERIMENT
@OVERRIDES
@click.option(
    "--trials", metavar="N", type=click.IntRange(min=1), help="Of all processes together, instead of tune.trials."
)
@click.pass_obj
def tune(invocation: Invocation, file: str, overrides: tuple[str, ...], trials: int | None) -> None:
    """Search over the keys of the section `tune`, each trial a training of its own.

    Start it as often as there is room: all processes share one search, and one that is killed is taken up again.
    """
    from hpcsurrogate.core.log import setup_logging
    from hpcsurrogate.study.tune import tune_experiment

    setup_logging(verbose=invocation.verbose)
    tune_experiment(file, overrides, trials, say=click.echo)


@click.command(short_help="time training steps on several numbers of ranks")
@EXPERIMENT
@OVERRIDES
@click.option("--ranks", metavar="N,N,...", type=NumbersOfRanks(), default="1,2,4", show_default=True)
@click.option(
    "--steps", metavar="N", type=click.IntRange(min=1), default=30, show_default=True, help="Of each training."
)
@click.pass_obj
def scaling(invocation: Invocation, file: str, overrides: tuple[str, ...], ranks: tuple[int, ...], steps: int) -> None:
    """Time training steps on several numbers of ranks: the same batch (strong scaling), and one that grows (weak)."""
    from hpcsurrogate.core.log import setup_logging
    from hpcsurrogate.study.scaling import measure_scaling

    setup_logging(verbose=invocation.verbose)
    measure_scaling(file, overrides, ranks, steps, say=click.echo)
