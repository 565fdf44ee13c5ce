"""Starts, and filtered DNS as reference."""

import pytest
import torch

from hpcsurrogate.core.config import Filter, FiniteVolumeHost, SpectralHost
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.couple.plan import Plan
from hpcsurrogate.couple.reference import Start, build_references, filter_for, overlap, place_starts, reference_key
from hpcsurrogate.physics.coarse_graining import CoarseGraining
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.hosts import make_host


@pytest.fixture
def plan(recorded, make_experiment):
    """Runs of 4 intervals within 13 snapshots."""
    return Plan(make_experiment(couple={"duration": 0.4}), recorded)


def test_starts_are_spread_over_the_record(plan):
    starts = place_starts(plan, (1, 2), 3)
    assert starts == [Start(r, index) for r in (1, 2) for index in (0, 4, 8)]
    assert not overlap(plan, starts)
    assert overlap(plan, place_starts(plan, (1,), 4))
    with pytest.raises(ConfigError, match="couple.duration: 10 start.* do not fit into the 13 of realisation 2"):
        place_starts(plan, (2,), 10)


def test_reference_is_the_filtered_snapshot_of_each_start_and_time(plan):
    hosts = [
        FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.05),
        SpectralHost(kind="spectral", grid=(24, 24), time_step=0.05),
    ]
    starts = [Start(1, 0), Start(1, 2), Start(2, 5)]
    references = build_references(plan, hosts, starts)
    assert set(references) == {reference_key(host) for host in hosts}
    for config in hosts:
        reference = references[reference_key(config)]
        host = make_host(config, plan.experiment.flow)
        fine_grid = Grid((48, 48), plan.experiment.flow.domain, torch.float32)
        wanted = filter_for(config, plan.experiment.prepare.filter)
        graining = CoarseGraining(plan.experiment.flow, fine_grid, host, wanted)
        assert reference.observation.energy.shape == (5, 3)
        for place, start in enumerate(starts):
            with plan.catalogue.open(start.realisation) as shard:
                fine = torch.from_numpy(shard.read("velocity", start.snapshot, start.snapshot + 5))
            expected = graining.velocity(fine)
            # The same calculation in another batch size: float32 round-off.
            torch.testing.assert_close(reference.velocity[place], expected[0], rtol=0, atol=1e-6)
            energy = 0.5 * expected.square().sum(1).mean((-2, -1))
            torch.testing.assert_close(reference.observation.energy[:, place], energy, rtol=1e-5, atol=0)


def test_a_spectral_host_is_held_against_the_sharp_cut_off_instead_of_face_averages():
    spectral = SpectralHost(kind="spectral", grid=(16, 16), time_step=0.1)
    staggered = FiniteVolumeHost(kind="finite_volume", grid=(16, 16), time_step=0.1)
    face_average, box = Filter(kind="face_average"), Filter(kind="box", width=0.5)
    assert filter_for(spectral, face_average).kind == "sharp"
    assert filter_for(staggered, face_average) is face_average
    assert filter_for(spectral, box) is box


def test_hosts_share_a_reference_unless_they_hold_other_fields():
    def staggered(**changes):
        return FiniteVolumeHost(kind="finite_volume", grid=(16, 16), **{"time_step": 0.1} | changes)

    assert reference_key(staggered()) == reference_key(staggered(time_step=0.2))
    assert reference_key(staggered()) != reference_key(staggered(order=4))
    spectral = SpectralHost(kind="spectral", grid=(16, 16), time_step=0.1)
    assert reference_key(spectral) != reference_key(spectral.model_copy(update={"dealias": "shift"}))
