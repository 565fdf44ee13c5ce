"""The pages of the files for other codes list every key of the file, and their examples are valid."""

import inspect
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from hpcsurrogate.core import config_cells, config_fluid
from hpcsurrogate.core.yaml_loader import load_cell_experiment, load_fluid_experiment

DOCS = Path(__file__).resolve().parents[2] / "docs"
REQUIRED = "—"
SECTIONS = [
    pytest.param(page, kind, id=name)
    for page, module in (("openfoam.md", config_cells), ("lammps.md", config_fluid))
    for name, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, module.Section) and kind.__module__ == module.__name__
]


@pytest.mark.parametrize(("page", "kind"), SECTIONS)
def test_table_has_all_keys_and_their_defaults(page, kind):
    body = re.search(rf"^#### {kind.__name__}\n(.*?)(?=^#|\Z)", (DOCS / page).read_text(), re.M | re.S)[1]
    table = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", body, re.M))
    fields = kind.model_fields
    assert list(table) == list(fields)
    for key, written in table.items():
        default = fields[key].get_default()
        if isinstance(default, BaseModel):
            told_by = {"kind": default.kind} if hasattr(default, "kind") else {}
            default = default.model_dump(mode="json", exclude_defaults=True) | told_by
        default = list(default) if isinstance(default, tuple) else default
        assert (written == REQUIRED) == fields[key].is_required(), key
        assert written == REQUIRED or yaml.safe_load(re.sub(r"^(\d)e", r"\1.0e", written)) == default, key


def example(page, name, tmp_path):
    path = tmp_path / "example.yaml"
    path.write_text(re.search(rf"^```yaml\n(name: {name}.*?)^```$", (DOCS / page).read_text(), re.M | re.S)[1])
    return path


def test_example_of_openfoam_is_valid(tmp_path):
    experiment = load_cell_experiment(example("openfoam.md", "channel", tmp_path))
    assert experiment.simulate.case == str(tmp_path / "cases/fine")
    assert experiment.prepare.coarse == str(tmp_path / "cases/coarse")


def test_example_of_lammps_is_valid(tmp_path):
    experiment = load_fluid_experiment(example("lammps.md", "fluid", tmp_path))
    assert experiment.simulate.script == str(tmp_path / "lammps/shear.lmp")
    assert [len(part.grid) for part in experiment.simulate.more] == [3]
