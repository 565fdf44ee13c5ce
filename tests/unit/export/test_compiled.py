"""What can be said of compiled closures without compiling one; the rest is in tests/hosts/test_parity.py."""

import pytest
import torch

from hpcsurrogate.core.errors import ConfigError, ModelRefusedError
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.embed.compiled import unpack
from hpcsurrogate.export.compiled import _pad, _roll
from hpcsurrogate.export.script import write_artifact
from hpcsurrogate.export.stage import run_export


def test_without_a_compiler_nothing_is_written(experiment, paths, trained, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled = experiment.model_copy(update={"export": experiment.export.model_copy(update={"formats": ("pt2",)})})
    with pytest.raises(ConfigError, match="'no-such-compiler' is not there") as refused:
        run_export(compiled, paths)
    assert "\n" not in str(refused.value)
    assert not paths.model.exists() and not paths.compiled.exists()


def test_native_code_is_refused_unless_allowed(tmp_path):
    path = tmp_path / "model.pt2"
    write_artifact(path, b"not even read")
    with pytest.raises(ModelRefusedError, match="native code"):
        load_artifact(path)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_package_is_refused_in_one_line(content):
    with pytest.raises(ModelRefusedError, match="torch cannot load it") as refused:
        unpack(content, "model.pt2")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("widths", [[2, 2, 2, 2], [0, 1, 3, 0]])
def test_padding_by_copies_is_periodic_padding(widths):
    field = torch.arange(70.0).reshape(1, 1, 7, 10)
    assert torch.equal(_pad(field, widths, "circular"), torch.nn.functional.pad(field, widths, mode="circular"))


@pytest.mark.parametrize("shift", [1, -1, 4, -6])
@pytest.mark.parametrize("axis", [-1, -2])
def test_shifting_by_copies_is_roll(shift, axis):
    field = torch.arange(70.0).reshape(1, 1, 7, 10)
    assert torch.equal(_roll(field, [shift], [axis]), field.roll(shift, axis))
