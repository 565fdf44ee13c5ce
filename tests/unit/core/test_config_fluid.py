"""What runs of LAMMPS are: `ingest.kind`, which may be left out, and what is wrong with it in one line."""

import pytest

from hpcsurrogate.core.config_fluid import ChunkIngest, DumpIngest, ShearIngest
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.yaml_loader import dump_experiment, load_any

FILE = """\
name: small
run_dir: run
simulate: {kind: lammps, script: none.lmp, grid: {rate: [0.1]}}
train: {model: {kind: viscous_law}}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        ([], ShearIngest),
        (["ingest.blocks=4"], ShearIngest),
        (["ingest.kind=shear", "ingest.gradient={xz: rate}"], ShearIngest),
        (["ingest.kind=chunks", "ingest.stress=[a, b, c, d, e, f]"], ChunkIngest),
        (["ingest={kind: dump, width: 2, masses: [1, 2.5], held_out: [{rate: 0.1}]}"], DumpIngest),
    ],
)
def test_kind_of_runs_and_back_from_the_resolved_file(file, overrides, kind):
    experiment = load_any(file, overrides)
    assert type(experiment.ingest) is kind
    file.write_text(dump_experiment(experiment))
    assert load_any(file) == experiment


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["ingest.blok=4"], r"ingest\.blok: unknown key; did you mean 'blocks'\?"),
        (["ingest.width=2"], r"ingest\.width: unknown key; known here are kind, averages, density"),
        (["ingest.kind=chunk"], r"ingest: kind 'chunk' is none of shear, chunks, dump; did you mean 'chunks'\?"),
        (["ingest.kind=3"], "ingest: kind '3' is none of shear, chunks, dump"),
        (["ingest.kind=dump"], r"ingest\.width: required key is missing; add it"),
        (["ingest.kind=dump", "ingest.widt=2"], r"ingest\.widt: unknown key; did you mean 'width'\?"),
        (["ingest.kind=chunks", "ingest.flow=y"], "ingest: the flow is along y, across the slices"),
        (["ingest=[1]"], "ingest: must be a mapping of keys, not a list"),
        (["ingest.kind=chunks", "propose={}"], "propose needs runs whose state is known beforehand"),
    ],
)
def test_what_is_wrong_is_one_line(file, overrides, words):
    with pytest.raises(ConfigError, match=words):
        load_any(file, overrides)
