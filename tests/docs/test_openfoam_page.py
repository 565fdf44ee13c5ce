"""docs/openfoam.md lists every key of the file that `ingest openfoam` and `fit` read, and its example is valid."""

import inspect
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from hpcsurrogate.core import config_cells
from hpcsurrogate.core.yaml_loader import load_cell_experiment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "openfoam.md"
REQUIRED = "—"
SECTIONS = {
    name: kind
    for name, kind in inspect.getmembers(config_cells, inspect.isclass)
    if issubclass(kind, config_cells.Section) and kind.__module__ == config_cells.__name__
}


@pytest.mark.parametrize("name", SECTIONS)
def test_table_has_all_keys_and_their_defaults(name):
    body = re.search(rf"^#### {name}\n(.*?)(?=^#|\Z)", PAGE.read_text(), re.M | re.S)[1]
    table = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", body, re.M))
    fields = SECTIONS[name].model_fields
    assert list(table) == list(fields)
    for key, written in table.items():
        default = fields[key].get_default()
        if isinstance(default, BaseModel):
            kind = {"kind": default.kind} if hasattr(default, "kind") else {}
            default = default.model_dump(mode="json", exclude_defaults=True) | kind
        assert (written == REQUIRED) == fields[key].is_required(), key
        assert written == REQUIRED or yaml.safe_load(re.sub(r"^(\d)e", r"\1.0e", written)) == default, key


def test_example_is_valid(tmp_path):
    path = tmp_path / "channel.yaml"
    path.write_text(re.search(r"^```yaml\n(name: channel.*?)^```$", PAGE.read_text(), re.M | re.S)[1])
    experiment = load_cell_experiment(path)
    assert experiment.simulate.case == str(tmp_path / "cases/fine")
    assert experiment.prepare.coarse == str(tmp_path / "cases/coarse")
