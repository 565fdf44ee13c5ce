"""docs/configuration.md lists every key with its default, and every experiment that comes with the program is valid."""

import importlib.resources
import inspect
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from hpcsurrogate.core import config
from hpcsurrogate.core.yaml_loader import load_any
from hpcsurrogate.pipeline.consistency import check_consistency

PROJECT = Path(__file__).resolve().parents[2]
REQUIRED = "—"


def documented() -> dict[str, dict[str, str]]:
    """Section -> key -> default as written, from the tables of the page."""
    tables = {}
    for heading, body in re.findall(
        r"^### (\w+)\n(.*?)(?=^##|\Z)", (PROJECT / "docs/configuration.md").read_text(), re.M | re.S
    ):
        assert heading not in tables, f"{heading} has two tables"
        tables[heading] = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", body, re.M))
    return tables


def sections() -> dict[str, type[BaseModel]]:
    found = inspect.getmembers(config, inspect.isclass)
    return {name: kind for name, kind in found if issubclass(kind, config.Section) and kind is not config.Section}


def default_of(field) -> object:
    value = field.get_default()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True) | (
            {"kind": value.kind} if hasattr(value, "kind") else {}
        )
    return list(value) if isinstance(value, tuple) else value


def test_every_section_has_its_table():
    assert documented().keys() == sections().keys()


@pytest.mark.parametrize("name", sections())
def test_table_has_all_keys_and_their_defaults(name):
    table = documented()[name]
    fields = sections()[name].model_fields
    assert list(table) == list(fields)
    for key, written in table.items():
        if fields[key].is_required():
            assert written == REQUIRED, key
        else:
            assert written != REQUIRED and yaml.safe_load(written) == default_of(fields[key]), key


@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_experiments_are_valid(path):
    check_consistency(load_any(path))


def test_starter_is_valid():
    with importlib.resources.as_file(importlib.resources.files("hpcsurrogate.cli") / "starter.yaml") as path:
        check_consistency(load_any(path))
