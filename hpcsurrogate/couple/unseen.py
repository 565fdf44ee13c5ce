"""The stage generalise: every contender, as it is, on flows that training never saw.

Each case is an experiment of its own in unseen/NAME: a DNS of another flow, grid or start, and the comparison of
stage.py on it, with the constants that were tuned on the experiment's own validation data. Writes unseen.json.
"""

import math
import shutil

from hpcsurrogate.core.atomic import read_json, write_json_atomic
from hpcsurrogate.core.config import Closure, Contender, Experiment, Host, Learned
from hpcsurrogate.core.errors import HpcsurrogateError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.couple.contenders import artifact_path, require_same_spacing
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.stage import compare
from hpcsurrogate.data.record import run_simulate
from hpcsurrogate.embed.artifact import load_artifact, manifest_path
from hpcsurrogate.parallel.world import World

log = get_logger("generalise")


def run_generalise(experiment: Experiment, paths: RunPaths, world: World) -> None:
    """Record every unseen case, run all contenders on it, and write unseen.json.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths    couple.json and, if a contender is `learned`, the artifact must be there
    world : World       its ranks share the realisations of each case, and the runs

    Raises
    ------
    ConfigError    if a case does not fit its recorded time, its grid, or the artifact
    DataError      if couple.json is missing or damaged
    DivergedError  from the DNS of a case
    """
    lines = {line["name"]: line for line in read_json(paths.coupling)["contenders"]}
    if world.rank == 0:
        _name_former_cases(experiment, paths)
    scores = {}
    for case in experiment.unseen:
        try:
            ours = experiment.of_case(case)
            _require_their_spacing(ours, paths)
            case_paths = RunPaths(ours.run_dir)
            run_simulate(_shared_by(ours, world.size), case_paths, world)
            _compare(_with_constants(ours, lines), case_paths, paths, world)
            if world.rank == 0:
                scores[case.name] = read_json(case_paths.coupling)
        except HpcsurrogateError as error:
            error.args = (f"unseen case {case.name}: {error}",)
            raise
        world.barrier()
    if world.rank == 0:
        write_json_atomic(paths.unseen, {"cases": scores})


def _name_former_cases(experiment: Experiment, paths: RunPaths) -> None:
    """Say which folders nothing reads any more. They may hold a DNS of days, so they stay."""
    known = {case.name for case in experiment.unseen}
    for folder in sorted(paths.unseen_cases.glob("*")):
        if folder.is_dir() and folder.name not in known:
            log.warning("%s: no case of this experiment; delete it if it is not wanted", folder)


def _shared_by(experiment: Experiment, num_ranks: int) -> Experiment:
    """The same experiment, each realisation recorded by as many ranks as wanted and there are."""
    source = experiment.simulate
    ranks = math.gcd(source.ranks_per_realisation, num_ranks)
    return experiment.model_copy(update={"simulate": source.model_copy(update={"ranks_per_realisation": ranks})})


def _compare(experiment: Experiment, paths: RunPaths, parent: RunPaths, world: World) -> None:
    """Compare the contenders on one case."""
    with world.failing_together():
        if world.rank == 0 and any(closure.artifact is None for _, closure in _learned(experiment)):
            for file in (parent.model, manifest_path(parent.model)):
                shutil.copyfile(file, paths.run_dir / file.name)
    realisations = tuple(range(experiment.simulate.realisations))
    compare(Plan(experiment, paths, realisations, world))


def _learned(experiment: Experiment) -> list[tuple[Host, Learned]]:
    """Hosts and closures of the learned contenders."""
    contenders = [contender for contender in experiment.couple.contenders if contender.closure.kind == "learned"]
    return [(contender.host or experiment.host, contender.closure) for contender in contenders]


def _require_their_spacing(experiment: Experiment, parent: RunPaths) -> None:
    for host, closure in _learned(experiment):
        require_same_spacing(load_artifact(artifact_path(parent, closure)), host, experiment.flow)


def _with_constants(experiment: Experiment, lines: dict[str, dict]) -> Experiment:
    """The same experiment with the constants that couple.json holds written into its contenders.

    Nothing is carried on beyond the comparison: that the closure lasts was shown on its own flow.
    """
    contenders = tuple(_fixed(contender, lines) for contender in experiment.couple.contenders)
    couple = experiment.couple.model_copy(update={"contenders": contenders, "long_run": 0.0})
    return experiment.model_copy(update={"couple": couple})


def _fixed(contender: Contender, lines: dict[str, dict]) -> Contender:
    tuned: Closure = contender.closure
    open_keys = [key for key, value in tuned.model_dump().items() if value == "tuned"]
    constants = {key: lines[contender.name]["constants"][key] for key in open_keys}
    return contender.model_copy(update={"closure": tuned.model_copy(update=constants)})
