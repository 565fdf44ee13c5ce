"""The stage `evaluate`: the trained closure beside the classical ones, a priori, on the test split -> evaluate.json."""

import math
from collections.abc import Iterator, Sequence

import torch

from hpcsurrogate.core.atomic import write_json_atomic
from hpcsurrogate.core.config import (
    DynamicSmagorinsky,
    Experiment,
    Gradient,
    Leith,
    Mixed,
    NoClosure,
    Smagorinsky,
    Vreman,
    Wale,
)
from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.evaluate.apriori import ERROR_OF_TARGET, ClosureScores, Samples, fit_constant, score_closures
from hpcsurrogate.evaluate.one_point import one_point_floor
from hpcsurrogate.models.build import load_weights
from hpcsurrogate.parallel.world import World
from hpcsurrogate.physics.closures import make_classical
from hpcsurrogate.physics.filter_widths import filter_widths
from hpcsurrogate.physics.hosts import AnyHost, make_host

MAX_BATCH_POINTS = 2**17
EVERYWHERE = {
    "none": NoClosure(kind="none"),
    "smagorinsky": Smagorinsky(kind="smagorinsky"),
    "dynamic smagorinsky": DynamicSmagorinsky(kind="dynamic_smagorinsky"),
    "gradient 2": Gradient(kind="gradient", order=2),
    "gradient 2, regularised": Gradient(kind="gradient", order=2, regularised=True),
    "gradient 4": Gradient(kind="gradient", order=4),
    "mixed": Mixed(kind="mixed"),
}
# By the number of dimensions.
BASELINES = {
    2: EVERYWHERE | {"leith": Leith(kind="leith")},
    3: EVERYWHERE | {"wale": Wale(kind="wale"), "vreman": Vreman(kind="vreman")},
}

log = get_logger(__name__)


class PreparedSamples:
    """All prepared snapshots of some realisations, in batches; can be walked through again and again.

    Parameters
    ----------
    catalogue : Catalogue                of the prepared shards
    realisations : sequence of int
    host : AnyHost                       the host they must be prepared for; gives precision and device

    Raises
    ------
    DataError    on walking through, if a shard is missing, damaged, or prepared for another host
    """

    def __init__(self, catalogue: Catalogue, realisations: Sequence[int], host: AnyHost) -> None:
        self.catalogue, self.realisations, self.host = catalogue, realisations, host

    def __iter__(self) -> Iterator[Samples]:
        grid = self.host.grid
        for realisation in self.realisations:
            with self.catalogue.open(realisation) as recorded:
                if (recorded.header.grid_shape, recorded.header.layout) != (grid.shape, self.host.layout):
                    raise DataError(
                        f"{recorded.path}: {recorded.header.layout} on {recorded.header.grid_shape}, the host is "
                        f"{self.host.layout} on {grid.shape}; run prepare again"
                    )
                size = max(1, MAX_BATCH_POINTS // math.prod(grid.shape))
                for start in range(0, recorded.header.num_snapshots, size):
                    fields = (recorded.read(name, start, start + size) for name in Samples._fields)
                    yield Samples(*(torch.from_numpy(field).to(grid.device, grid.dtype) for field in fields))


def run_evaluate(experiment: Experiment, paths: RunPaths, world: World) -> None:
    """Score the learned closure and the classical ones on the test split and write `paths.evaluation`.

    Rank 0 does the work, the others wait for it: it takes seconds.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths
    world : World

    Raises
    ------
    DataError            if prepared data or weights are missing, or data are damaged
    ModelRefusedError    if the weights are not this experiment's
    DivergedError        if a closure returns values that are not finite
    """
    if world.rank == 0:
        content = evaluate_experiment(experiment, paths)
        write_json_atomic(paths.evaluation, content)
        target = content["target"]
        for scores in content["closures"]:
            error = scores[ERROR_OF_TARGET[target]]
            if error is not None:
                log.info("a-priori %s: relative error of the %s %.3f", scores["name"], target, error)
    world.barrier()


def evaluate_experiment(experiment: Experiment, paths: RunPaths) -> dict:
    """Return the content of evaluate.json: the a-priori scores of all closures on the same test snapshots.

    Constants that are marked `tuned` are fitted to the training target on the training split.
    """
    host = make_host(experiment.host, experiment.flow, torch.float32)
    catalogue = Catalogue.read(paths.prepared)
    split = experiment.prepare.split
    training, validation, test = (
        PreparedSamples(catalogue, realisations, host) for realisations in (split.train, split.validation, split.test)
    )
    target, force = experiment.train.apriori.target, experiment.train.apriori.force
    # The stress belongs to the filter, so Delta is its width, which need not be the spacing of the grid.
    widths = filter_widths(experiment.prepare.filter, host.grid.spacing)
    delta = math.prod(widths) ** (1 / len(widths))
    contenders = [ClosureScores("learned", load_weights(experiment, paths))]
    for name, section in BASELINES[host.grid.num_dims].items():
        constant = None
        if getattr(section, "constant", None) == "tuned":
            constant = fit_constant(host, make_classical(section, host, constant=1.0, delta=delta), training, force)
        contenders.append(ClosureScores(name, make_classical(section, host, constant, delta), constant))
    summaries, exact_backscatter = score_closures(host, contenders, test, force)
    return {
        "target": target,
        "num_snapshots": sum(catalogue.entry(realisation).num_snapshots for realisation in split.test),
        "dns_backscatter_fraction": exact_backscatter.force,
        "dns_stress_backscatter_fraction": exact_backscatter.stress,
        "one_point_floor": one_point_floor(host, training, validation, test).as_dict(),
        "closures": summaries,
    }
