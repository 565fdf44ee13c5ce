import json
import subprocess
import sys

import pytest

from hpcsurrogate.core.config import Flow
from hpcsurrogate.core.provenance import digest, library_version, provenance, source_digest


def test_digest_ignores_order_and_sees_every_value():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert len(digest([])) == 64


def test_digest_takes_models_and_equals_that_of_their_content():
    flow = Flow(viscosity=1e-3)
    assert digest({"flow": flow}) == digest({"flow": flow.model_dump(mode="json")})
    assert digest(flow) != digest(Flow(viscosity=2e-3))


def test_digest_is_the_same_in_another_process():
    script = "from hpcsurrogate.core.provenance import digest; print(digest({'x': 0.1, 'y': ['Δ', True]}))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert other == digest({"x": 0.1, "y": ["Δ", True]})


@pytest.mark.parametrize("content", [float("nan"), {1, 2}, object()])
def test_digest_refuses_what_has_no_canonical_form(content):
    with pytest.raises((TypeError, ValueError)):
        digest(content)


def test_provenance_is_json_and_names_versions():
    content = json.loads(json.dumps(provenance()))
    assert content["libraries"]["pydantic"] == library_version("pydantic")
    assert set(content) == {"version", "git_commit", "libraries", "python", "host", "time"}


def test_absent_library_has_no_version():
    assert library_version("a-distribution-that-nobody-made") is None


def test_the_digest_of_the_program_changes_with_any_of_its_files(tmp_path, monkeypatch):
    def digest_of(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        source_digest.cache_clear()
        return source_digest()

    own = source_digest()
    try:
        with monkeypatch.context() as patched:
            patched.setattr("hpcsurrogate.core.provenance.PACKAGE_DIR", tmp_path)
            first = digest_of(one="x = 1", other="y = 2")
            assert digest_of(one="x = 1") == first
            assert len({own, first, digest_of(one="x = 2"), digest_of(one="x = 1", third="")}) == 4
    finally:
        source_digest.cache_clear()
