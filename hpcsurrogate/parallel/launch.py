"""Start this program on several MPI ranks: `mpirun` on one machine, `srun` inside a SLURM allocation.

Ranks run under `python -m mpi4py`, which turns an uncaught exception or a non-zero `sys.exit` of one rank
into MPI_Abort: without it the other ranks would wait for the lost one for ever.
"""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from hpcsurrogate.core.errors import ConfigError, RankLostError
from hpcsurrogate.parallel.guard import die_with_parent

PROMISED_RANKS = "HPCSURROGATE_RANKS"
_ABORT_PHRASES = ("MPI_ABORT was invoked", 'calling\n"abort"', "exited with non-zero status")


def run_ranks(argv: Sequence[str], ranks: int, threads_per_rank: int = 1) -> int:
    """Run `hpcsurrogate <argv>` on MPI ranks and wait for all of them.

    Parameters
    ----------
    argv : sequence of str      the subcommand and its arguments
    ranks : int [-]             number of MPI processes
    threads_per_rank : int [-]  OpenMP threads of each

    Returns
    -------
    int    0, or the exit code of the rank that failed first

    Raises
    ------
    ConfigError      if neither mpirun nor srun can be found
    RankLostError    if a signal ended the launcher itself

    Notes
    -----
    SIGUSR1 and SIGTERM reach every rank as SIGUSR1, a second SIGTERM ends them; if this process is killed, they end too
    (tests/parallel/test_engine_launch.py).
    """
    program = [sys.executable, "-m", "mpi4py", "-m", "hpcsurrogate", *argv]
    command = launcher_command(ranks, threads_per_rank) + program
    return run_launcher(command, launcher_environment(ranks, threads_per_rank))


def run_alone(argv: Sequence[str]) -> int:
    """Run `hpcsurrogate <argv>` in one process of its own, without a launcher; else like run_ranks."""
    return run_launcher([sys.executable, "-m", "hpcsurrogate", *argv], os.environ)


def run_launcher(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a launcher's command line to its end and return its exit code; see run_ranks."""
    end_with_this = functools.partial(die_with_parent, os.getpid(), signal.SIGTERM)
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace", preexec_fn=end_with_this
    )
    with _SignalsForwarded(process):
        for line in without_abort_banners(process.stderr):
            # Open MPI 5 puts a NUL before what a rank says last before it ends all.
            print(line.replace("\0", ""), end="", file=sys.stderr, flush=True)
        exit_code = process.wait()
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        raise RankLostError(f"{command[0]}: the launcher was ended by {name}; look for a job or memory limit")
    return exit_code


def without_abort_banners(lines: Iterable[str]) -> Iterator[str]:
    """Drop the framed paragraphs in which Open MPI reports that a rank ended itself: that rank has said why.

    Every other paragraph, such as the one about a rank that a signal killed, stays.
    """
    block = []
    for line in lines:
        is_frame = len(line) > 40 and not line.strip().strip("-")
        if not block and not is_frame:
            yield line
            continue
        block.append(line)
        if is_frame and len(block) > 1:
            if not any(phrase in "".join(block) for phrase in _ABORT_PHRASES):
                yield from block
            block = []
    yield from block


def launcher_command(ranks: int, threads_per_rank: int = 1) -> list[str]:
    """The launcher and its options for this place, to be followed by the program.

    Raises
    ------
    ConfigError    if the launcher is not installed
    """
    if "SLURM_JOB_ID" in os.environ:
        srun = shutil.which("srun")
        if srun is None:
            raise ConfigError("SLURM_JOB_ID is set but srun is not on PATH; load SLURM's module, or unset SLURM_JOB_ID")
        return [srun, "--mpi=pmix", "--kill-on-bad-exit=1", f"--cpus-per-task={threads_per_rank}", "-n", str(ranks)]
    mpirun = find_mpirun()
    command = [mpirun, "-np", str(ranks)]
    if _is_open_mpi(mpirun):
        # Slots default to physical cores, which this program cannot count; more ranks than that are slow, not wrong.
        # Binding would pin all threads of a rank to one core.
        command += ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]
    return command


def find_mpirun() -> str:
    """Path of mpirun: the one beside this Python (the wheel that the set-up installs), else the one on PATH.

    Raises
    ------
    ConfigError    if there is none
    """
    # Not resolved: in a virtual environment the interpreter is a link to one that lies elsewhere.
    beside = Path(sys.executable).parent
    mpirun = shutil.which("mpirun", path=str(beside)) or shutil.which("mpirun")
    if mpirun is None:
        raise ConfigError(
            f"mpirun: neither in {beside} nor on PATH; run `make install`, or load your site's MPI module, "
            "or set `ranks: 1` and `train.engine: none`"
        )
    return mpirun


def launcher_environment(ranks: int, threads_per_rank: int = 1) -> dict[str, str]:
    """The environment for the launcher: this one, the promised world size, threads, and settings of Open MPI."""
    environment = dict(os.environ)
    environment[PROMISED_RANKS] = str(ranks)
    environment["OMP_NUM_THREADS"] = str(threads_per_rank)
    environment.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads of one rank starve another
    # Open MPI's one-sided component for UCX prints an error for every window where UCX finds no network that it likes;
    # the components `sm` (one node) and `rdma` serve instead. A site that wants UCX sets the variable itself.
    environment.setdefault("OMPI_MCA_osc", "^ucx")
    environment.setdefault("PRTE_MCA_prte_tmpdir_base", _session_folder())
    if os.geteuid() == 0:
        environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
        environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    return environment


@functools.cache
def _session_folder() -> str:
    """A folder of this process, gone at its end, for what Open MPI's mpirun keeps under the number of its process.

    Where a killed one of the same number has left that, Open MPI 5 does not start and leaves with code 213.
    """
    folder = tempfile.mkdtemp(prefix="hpcsurrogate-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_open_mpi(mpirun: str) -> bool:
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return "Open MPI" in version.stdout


class _SignalsForwarded:
    """Context in which SIGTERM and SIGUSR1 go to a launcher; a no-op outside the main thread.

    SIGTERM would make mpirun end its ranks at once, so it goes as SIGUSR1, on which a training checkpoints; a second
    one goes as it is.
    """

    _signals = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, process: subprocess.Popen):
        self._process = process
        self._previous = {}
        self._asked_to_end = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                self._previous[number] = signal.signal(number, self._hand_on)

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._process.poll() is None:  # an exception, such as an interrupt, left the wait: leave no ranks behind
            self._process.terminate()
            self._process.wait()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._process.send_signal(number if self._asked_to_end else signal.SIGUSR1)
        self._asked_to_end = self._asked_to_end or number == signal.SIGTERM
