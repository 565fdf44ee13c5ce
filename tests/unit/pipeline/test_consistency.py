import pytest

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.pipeline.consistency import check_consistency

CNN = "train.model={{kind: cnn, {}}}".format
FORCING = "flow.forcing={kind: kolmogorov}"
BOX_FILTERS = "prepare.more_filters=[{kind: box, width_over_spacing: 2}, {kind: box}]"
THREE_DIMENSIONS = [
    "flow.domain=[1.0, 1.0, 2.0]",
    "host.grid=[16, 16, 32]",
    "simulate={kind: well, files: [data.hdf5]}",
]
THREE_DIMENSIONAL_DNS = [
    *THREE_DIMENSIONS[:2],
    "simulate={kind: dns, grid: [64, 64, 64], realisations: 3, duration: 2.0, snapshot_interval: 0.1}",
]


def test_a_good_experiment_passes(experiment):
    check_consistency(experiment)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["ranks=2"], "train.engine: none trains alone"),
        (["ranks=4", "train.engine=horovod"], "ranks: 4 is more than simulate.realisations: 3"),
        (["ranks=3", "train.engine=horovod"], "train.apriori.batch_size: 16 is no multiple of ranks: 3"),
        (["prepare.split.test=[3]"], "prepare.split.test: realisation 3 does not exist"),
        (["prepare.split.train=[-1]"], "prepare.split.train: realisation -1 does not exist"),
        (["host.grid=[64, 64]"], "is not coarser than simulate.grid"),
        (["couple.ladder=[32, 128]"], "couple.ladder.1: 128 is finer than"),
        (["simulate.snapshot_interval=3.0"], "exceeds duration"),
        (["couple.duration=2.5"], "couple.duration: 2.5 is longer than simulate.duration: 2.0"),
        (["host.time_step=0.03"], "does not divide simulate.snapshot_interval"),
        (["host.time_step=0.2"], "does not divide simulate.snapshot_interval"),
        (["host={kind: spectral, grid: [16, 16], time_step: 0.05}"], "face_average is for a finite_volume host"),
        ([*THREE_DIMENSIONS[:2]], "simulate.grid: [64, 64] has 2 axes, but flow.domain has 3 lengths"),
        ([*THREE_DIMENSIONAL_DNS, "host.grid=[16, 16, 64]"], "is not coarser than simulate.grid"),
        (["couple.contenders=[{name: a, closure: {kind: wale}}]"], "closure.kind: wale is for 3 dimensions"),
        (
            [*THREE_DIMENSIONAL_DNS, "couple.contenders=[{name: a, closure: {kind: leith}}]"],
            "couple.contenders.0.closure.kind: leith is for 2 dimensions",
        ),
        (
            ["couple.contenders=[{name: a, closure: {kind: none}, ladder: [32, 96]}]"],
            "couple.contenders.0.ladder.1: 96 is finer than",
        ),
        (["simulate.ranks_per_realisation=2"], "only a three-dimensional field is shared"),
        (
            [*THREE_DIMENSIONAL_DNS, "simulate.ranks_per_realisation=2", "ranks=1"],
            "ranks: 1 is no multiple of simulate.ranks_per_realisation: 2",
        ),
        (
            [*THREE_DIMENSIONAL_DNS, "simulate.ranks_per_realisation=2", "ranks=8", "train.engine=horovod"],
            "ranks: 8 is more than simulate.realisations: 3 of 2 ranks each",
        ),
        (["host.grid=[16, 16, 16]"], "host.grid: [16, 16, 16] has 3 axes, but flow.domain has 2 lengths"),
        (THREE_DIMENSIONS[:1] + THREE_DIMENSIONS[2:], "host.grid: [16, 16] has 2 axes, but flow.domain has 3 lengths"),
        (
            [
                "couple.contenders=[{name: deep, closure: {kind: none}, "
                "host: {kind: spectral, grid: [16, 16, 16], time_step: 0.05}}]"
            ],
            "couple.contenders.0.host.grid: [16, 16, 16] has 3 axes",
        ),
        (
            [
                "host={kind: spectral, grid: [16, 16], time_step: 0.05}",
                "prepare.filter.kind=sharp",
                "prepare.more_filters=[{kind: box}, {kind: face_average}]",
            ],
            "prepare.more_filters.1.kind: face_average is for a finite_volume host",
        ),
        (["prepare.filter.width=0.1"], "prepare.filter: a face_average is as wide as the coarse cell"),
        (
            ["prepare.more_filters=[{kind: face_average, width: 0.1}]"],
            "prepare.more_filters.0: a face_average is as wide as the coarse cell",
        ),
        (
            ["prepare.more_filters=[{kind: face_average}]"],
            "prepare.more_filters.0: the same face_average filter of the same width as prepare.filter",
        ),
        (
            ["prepare.more_filters=[{kind: box}, {kind: gaussian}, {kind: box, width_over_spacing: 1}]"],
            "prepare.more_filters.2: the same box filter of the same width as prepare.more_filters.0",
        ),
        ([CNN("scalars: [filter_width]")], "train.model.scalars: filter_width is the same in all data"),
        (["flow.viscosity=0", CNN("scalars: [reynolds_number]")], "reynolds_number does not exist"),
        (
            [BOX_FILTERS, CNN("scalars: [filter_width]"), "train.apriori.augmentation.rotations=true", FORCING],
            "train.apriori.augmentation: with train.model.scalars: filter_width only for a flow without forcing",
        ),
        (
            [CNN("principal_components: {patch: 3, components: 19}")],
            "train.model.principal_components.components: 19 is more than the 18 velocity components",
        ),
        (["train.apriori.augmentation.galilean=0.5"], "train.apriori.augmentation.galilean: the commutator changes"),
        (
            ["train.apriori.target=sgs_stress", "train.model={kind: cnn}"],
            "train.apriori.target: sgs_stress, but train.model.kind: cnn gives a force and no stress",
        ),
        (
            ["train.apriori.target=sgs_stress", "train.model={kind: stress_stencil}", "train.precision=bfloat16"],
            "train.precision: bfloat16 cannot be had with train.apriori.target: sgs_stress",
        ),
        (["train.model={kind: scale_estimation}"], "train.model.kind: scale_estimation is for a sharp cut-off"),
    ],
)
def test_sections_that_do_not_fit_together(experiment_file, overrides, expected):
    with pytest.raises(ConfigError) as caught:
        check_consistency(load_experiment(experiment_file, overrides))
    assert expected in str(caught.value)


def test_time_steps_that_divide_up_to_round_off_pass(experiment_file):
    """0.1 / 0.0125 and 0.3 / 0.1 are not whole in binary; the check allows a millionth."""
    for step, interval in ((0.0125, 0.1), (0.1, 0.3)):
        overrides = [f"host.time_step={step}", f"simulate.snapshot_interval={interval}"]
        check_consistency(load_experiment(experiment_file, overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        THREE_DIMENSIONS,
        THREE_DIMENSIONAL_DNS,
        [*THREE_DIMENSIONAL_DNS, "simulate.ranks_per_realisation=2", "ranks=4", "train.engine=horovod"],
        [BOX_FILTERS],
        [BOX_FILTERS, CNN("scalars: [filter_width], principal_components: {patch: 3, components: 18}")],
        ["train.apriori.augmentation.galilean=0.5", "train.apriori.target=sgs_force"],
    ],
)
def test_sections_that_fit_together(experiment_file, overrides):
    check_consistency(load_experiment(experiment_file, overrides))
