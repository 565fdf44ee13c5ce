"""A prepared run to do faults to, the real command on ranks, and the table of what was injected and survived.

Every test of this folder is marked `@pytest.mark.fault(number, "what")`, a line of that table. It counts as one
injection that was survived if it passes, unless it reports them one by one to the fixture `fault`.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpcsurrogate.core.atomic import write_text_atomic

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import fault_experiment
import fault_jobs


@dataclass(frozen=True)
class PreparedRun:
    """An experiment whose data are simulated and prepared. Tests do not change it: `copy` gives them one of their own.

    Attributes
    ----------
    experiment_file : Path
    run_dir : Path
    num_steps : int    of the whole training
    """

    experiment_file: Path
    run_dir: Path
    num_steps: int = fault_experiment.NUM_STEPS

    def copy(self, target: Path) -> Path:
        """Copy the run directory, times of modification included, for `hpcsurrogate train FILE run_dir=target`."""
        return Path(shutil.copytree(self.run_dir, target))


@pytest.fixture(scope="session")
def prepared_run(tmp_path_factory) -> PreparedRun:
    directory = tmp_path_factory.mktemp("prepared")
    experiment_file = fault_experiment.write_experiment(directory)
    fault_experiment.prepare_run(experiment_file)
    return PreparedRun(experiment_file, directory / "run")


@pytest.fixture(scope="session")
def reference_weights(prepared_run, tmp_path_factory) -> dict[str, bytes]:
    """Name -> bytes of every final weight of a training that nothing disturbed."""
    run_dir = prepared_run.copy(tmp_path_factory.mktemp("reference") / "run")
    job = fault_jobs.Job(prepared_run.experiment_file, run_dir)
    finished = job.finish()
    assert finished.exit_code == 0, finished.stderr
    return fault_experiment.weights_of(run_dir)


@pytest.fixture
def weights_of() -> Callable[[Path], dict[str, bytes]]:
    """`weights_of(run_dir)` -> name -> bytes of every final weight, to be compared with `reference_weights`."""
    return fault_experiment.weights_of


@pytest.fixture
def train_command(prepared_run) -> Iterator[Callable[..., fault_jobs.Job]]:
    """`train_command(run_dir, *overrides, ranks=2, environment=None, stage="train")` -> fault_jobs.Job, that has begun.

    What still lives at the end of the test is killed.
    """
    jobs = []

    def start(run_dir, *overrides, ranks=2, environment=None, stage="train"):
        jobs.append(fault_jobs.Job(prepared_run.experiment_file, run_dir, overrides, ranks, environment, stage))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()


# A sitecustomize module: Python loads it before anything else, so that the program itself has no place for faults. It
# waits for torch, since the command starts a process of its own before torch may be loaded.
ACT_IN_A_CALL = """
import importlib.abc, importlib.util, os, signal, sys

RANK, FIRST, LAST, ACTION = {rank}, {first}, {last}, {action!r}


class AfterTorch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda torch: (load(torch), install(torch))
        return spec


def install(torch):
    calls = 0

    def after_forward(network, inputs, output):
        nonlocal calls
        if type(network).__name__ != "PeriodicCnn" or not torch.is_grad_enabled():
            return None
        calls += 1
        if not FIRST <= calls <= LAST:
            return None
        names = dict(torch=torch, os=os, signal=signal, network=network, output=output)
        exec(ACTION, names)
        return names["output"]

    torch.nn.modules.module.register_module_forward_hook(after_forward)


if os.environ.get("OMPI_COMM_WORLD_RANK") == str(RANK):
    sys.meta_path.insert(0, AfterTorch())
"""


@pytest.fixture
def act_in_call(tmp_path) -> Callable[..., dict[str, str]]:
    """`act_in_call(rank, first, action, last=None)` -> environment for `train_command`.

    On this rank, and in the calls first to last of the network that training makes (a call has a number, not a time, so
    that no test is a race), the Python code `action` is done. It sees network, output, torch, os, signal, and may set
    `output` to something else. In the first phase there is a call for each part of a rank's share of a step.
    """

    def write(rank, first, action, last=None):
        folder = tmp_path / f"action-{sum(1 for _ in tmp_path.glob('action-*'))}"
        folder.mkdir()
        text = ACT_IN_A_CALL.format(rank=rank, first=first, last=first if last is None else last, action=action)
        (folder / "sitecustomize.py").write_text(text)
        return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])}

    return write


# --- the table ------------------------------------------------------------------------------------------------------


@dataclass
class FaultReport:
    """What a test injected.

    Attributes
    ----------
    survived : int            injections so far
    seconds : list of float   from injection to exit, of those that were to end the program
    """

    survived: int = 0
    seconds: list[float] = field(default_factory=list)

    def exited(self, seconds: float) -> None:
        """Report an injection after which the program ended as it should, so many seconds later."""
        self.survived += 1
        self.seconds.append(seconds)

    def withstood(self, times: int = 1) -> None:
        """Report injections after which nothing had to end: damage that was refused, or a run that went on."""
        self.survived += times


@dataclass
class Row:
    """A fault in the table."""

    number: int
    what: str
    injected: int = 0
    survived: int = 0
    seconds: list[float] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        longest = f"{max(self.seconds):.1f}" if self.seconds else "-"
        return (str(self.number), self.what, str(self.injected), str(self.survived), longest)


REPORT, ROWS = pytest.StashKey[FaultReport](), pytest.StashKey[dict[tuple[int, str], Row]]()
HEADINGS = ("number", "fault", "injected", "survived", "seconds to exit")


@pytest.fixture
def fault(request) -> FaultReport:
    """`fault.exited(seconds)` and `fault.withstood(times)`: what this test injected, for the table."""
    return request.node.stash.setdefault(REPORT, FaultReport())


def pytest_addoption(parser):
    parser.addoption("--fault-table", metavar="FILE", help="write the table of faults as Markdown")


def pytest_configure(config):
    config.addinivalue_line("markers", "fault(number, what): the test injects this fault")
    config.stash[ROWS] = {}


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("fault") is None:
            raise pytest.UsageError(f"{item.nodeid}: which fault does it inject? Add @pytest.mark.fault(number, what)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call" or outcome.failed:
        report = item.stash.get(REPORT, FaultReport())
        passed = outcome.passed
        for mark in item.iter_markers("fault"):
            row = item.config.stash[ROWS].setdefault(mark.args, Row(*mark.args))
            # A test that fails has met one injection more than it reported.
            row.injected += max(report.survived, 1) if passed else report.survived + 1
            row.survived += max(report.survived, 1) if passed else report.survived
            row.seconds += report.seconds
    return outcome


def pytest_terminal_summary(terminalreporter, config):
    rows = sorted(config.stash[ROWS].values(), key=lambda row: (row.number, row.what))
    if not rows:
        return
    table = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section("faults")
    for cells in table:
        terminalreporter.write_line("  ".join(map(str.ljust, cells, widths)).rstrip())
    file = config.getoption("--fault-table", default=None)
    if file:
        lines = ["| " + " | ".join(cells) + " |" for cells in (HEADINGS, ("---",) * len(HEADINGS), *table[1:])]
        write_text_atomic(Path(file), "\n".join(lines) + "\n")
