import pytest

from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.pipeline.consistency import check_consistency


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
