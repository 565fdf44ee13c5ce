import re
import time
from pathlib import Path

import pytest

from hpcsurrogate.core.config import Experiment, WellSource
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.core.yaml_loader import dump_experiment, load_any, load_experiment
from hpcsurrogate.core.yaml_tree import read_tree

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


def error_of(path, *overrides):
    """The message of the ConfigError that loading raises; always one line."""
    with pytest.raises(ConfigError) as caught:
        load_experiment(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def error_of_text(text):
    with pytest.raises(ConfigError) as caught:
        read_tree(text, "file.yaml")
    return str(caught.value)


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_loads_lists_into_tuples_and_integers_into_floats(experiment_file):
    experiment = load_experiment(experiment_file, ["couple.duration=1"])
    assert experiment.host.grid == (16, 16)
    assert experiment.couple.duration == 1.0 and isinstance(experiment.couple.duration, float)
    assert experiment.flow.viscosity == 1e-3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_experiments_are_valid_and_survive_a_round_trip(path, tmp_path):
    experiment = load_any(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_experiment(experiment))
    assert load_any(copy) == experiment


def test_there_are_shipped_experiments():
    assert {path.name for path in CONFIGS} >= {"demo.yaml", "kolmogorov2d.yaml"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-1E6", -1e6),
        (".5", 0.5),
        ("2.", 2.0),
        ("7", 7),
        ("true", True),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("True", "True"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("'1e-3'", "1e-3"),
    ],
)
def test_scalars_mean_what_they_look_like(text, value):
    read = read_tree(f"key: {text}", "file.yaml").content["key"]
    assert read == value and type(read) is type(value)


def test_unknown_key_has_place_and_suggestion(experiment_file):
    change(experiment_file, "  grid: [64, 64]", "  gird: [64, 64]")
    message = error_of(experiment_file)
    assert message.startswith(f"{experiment_file}:7:3: simulate.gird: unknown key; did you mean 'grid'?")
    assert message.endswith("(and 1 more)")  # grid itself is missing


def test_unknown_key_without_resemblance_lists_what_is_known(experiment_file):
    assert "known here are domain, viscosity, drag, forcing" in error_of(experiment_file, "flow.zzz=1")


def test_duplicate_key_names_both_places(experiment_file):
    change(experiment_file, "  duration: 2.0", "  duration: 2.0\n  grid: [32, 32]")
    assert f"{experiment_file}:10:3: simulate.grid: given twice, first at {experiment_file}:7:3" in error_of(
        experiment_file
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "host.kind=finite_volum",
            "kind 'finite_volum' is none of finite_volume, spectral; did you mean 'finite_volume'?",
        ),
        ("host={grid: [16, 16]}", "host: `kind` is missing; add one of finite_volume, spectral"),
        ("host.order=3", "host.order: must be 2, 4 or 6, not 3"),
        ("host.grid=[16, 15]", "host.grid.1: must be a multiple of 2, not 15"),
        ("host.grid=[16, 16, 16, 16]", "host.grid: must have at most 3 items, not 4"),
        ("host.grid=16", "host.grid: must be a list, not 16"),
        ("host=", "host: must be a mapping of keys, not an empty value"),
        ("seed=1.5", "seed: must be a whole number, not 1.5"),
        ("seed=one", "seed: must be a whole number, not the text 'one'"),
        ("train.tensorboard=yes", "must be true or false, not the text 'yes'; only true and false are booleans"),
        ("train.tensorboard=1", "must be true or false, not 1"),
        ("flow.viscosity=-1", "flow.viscosity: must be greater than or equal to 0, not -1"),
        ("flow.viscosity=.inf", "flow.viscosity: must be a number, not the text '.inf'"),
        ("flow.viscosity=true", "flow.viscosity: must be a number, not true"),
        ("flow.viscosity=1e999", "1e999 is too large for a number"),
        ("name=a b", "name: must match"),
        ("couple.contenders.1.closure.constant=tunde", "did you mean 'tuned'?"),
        ("couple.contenders.1.closure.kind=leit", "did you mean 'leith'?"),
        (
            "couple.contenders.0.host={kind: spectral, grid: [16, 16]}",
            "contenders.0.host.time_step: required key is missing",
        ),
        ("couple.contenders.7.name=x", "'7' is no item of a list of 2; items count from 0"),
        ("name.first=x", "nothing can stand below a value"),
        ("seed", "is no section.key=value"),
        (".seed=1", "is no section.key=value"),
        ("seed=[1", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said(experiment_file, override, expected):
    message = error_of(experiment_file, override)
    assert expected in message
    assert message.startswith(f"override '{override}'")


def test_a_rule_between_keys_is_reported_at_their_section(experiment_file):
    message = error_of(experiment_file, "prepare.split.test=[0]")
    assert message.startswith(f"{experiment_file}:11:11: prepare.split: a realisation stands in more than one of")


def test_overrides_reach_lists_optional_sections_and_the_last_one_wins(experiment_file):
    experiment = load_experiment(
        experiment_file,
        [
            "couple.contenders.1.name=other",
            "train.apriori.epochs=3",
            "train.apriori.epochs=4",
            "simulate.grid=[32, 64]",
        ],
    )
    assert experiment.couple.contenders[1].name == "other"
    assert experiment.train.apriori.epochs == 4
    assert experiment.simulate.grid == (32, 64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1\nb: *x", "file.yaml:1:4: anchors (&) and aliases (*) are not allowed"),
        ("a: !!python/object/apply:os.system [ls]", "file.yaml:1:4: tags (!) are not allowed"),
        ("a: !!float 1", "tags (!) are not allowed"),
        ("[" * 30 + "]" * 30, "file.yaml:1:21: nested deeper than 20 levels"),
        ("a: 1\n---\nb: 2", "file.yaml:2:1: not valid YAML"),
        ("a: [1,\nb: }", "not valid YAML"),
        ("a:\n\t- 1", "file.yaml:2:1: not valid YAML"),
        ("? [1]\n: 2", "a key must be a word"),
        ("a: \x01", "not valid YAML"),
        ("a: 1\na: 2", "file.yaml:2:1: a: given twice"),
        ("a" * 1_000_001, "longer than 1000000 characters"),
    ],
)
def test_strict_yaml(text, expected):
    assert expected in error_of_text(text)


def test_a_bomb_of_brackets_is_refused_at_once():
    """Composing 900,000 levels would overflow the stack; one second is a thousand times what reading 21 takes."""
    started = time.monotonic()
    assert "nested deeper" in error_of_text("[" * 900_000)
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "file is empty"),
        (b"# only a comment\n", "file is empty"),
        (b"- 1\n", "must be a mapping of sections"),
        (b"name: \xff", "not UTF-8 text (byte 6)"),
    ],
)
def test_files_that_are_no_experiment(tmp_path, content, expected):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert expected in error_of(path)


def test_missing_file_and_folder(tmp_path):
    assert "file does not exist" in error_of(tmp_path / "no.yaml")
    assert "cannot be read" in error_of(tmp_path)


def test_missing_section_is_named(experiment_file):
    change(experiment_file, "flow: {viscosity: 1e-3}\n", "")
    assert re.search(r"tiny.yaml:1:1: flow: required key is missing", error_of(experiment_file))


def test_files_of_the_user_count_from_the_experiment_file(experiment_file, monkeypatch):
    monkeypatch.chdir("/")
    experiment = load_experiment(experiment_file, ["simulate={kind: well, files: [data/a.hdf5, /b.hdf5]}"])
    assert isinstance(experiment.simulate, WellSource)
    assert experiment.simulate.files == (str(experiment_file.parent / "data/a.hdf5"), "/b.hdf5")


def test_every_section_is_frozen(experiment_file):
    experiment: Experiment = load_experiment(experiment_file)
    with pytest.raises(ValueError):
        experiment.flow.viscosity = 2.0
