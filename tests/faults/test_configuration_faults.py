"""Mistakes and attacks in the experiment file, through the real command: one line with its place, code 2, no effect."""

import subprocess
import sys

import pytest

# The file, with the line numbers by which the cases below name places.
EXPERIMENT = """\
name: faults
run_dir: {run_dir}
flow:
  viscosity: 1e-3
  forcing: {{kind: kolmogorov}}
host:
  kind: finite_volume
  grid: [16, 16]
  time_step: 0.05
simulate:
  kind: dns
  grid: [32, 32]
  realisations: 3
  duration: 1.6
  snapshot_interval: 0.1
prepare:
  split: {{train: [0], validation: [1], test: [2]}}
train:
  engine: none
  model: {{kind: quadratic_stencil}}
couple:
  duration: 0.5
  contenders:
    - {{name: none, closure: {{kind: none}}}}
"""
ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{later}: &{later} [{', '.join([f'*{earlier}'] * 9)}]\n"
    for earlier, later in zip("abcdefgh", "bcdefghi", strict=True)
)
CASES = {
    "typo in a key": (("viscosity:", "viscosty:"), ":4:3: flow.viscosty: unknown key; did you mean 'viscosity'?"),
    "typo in a kind": (("finite_volume", "finite_volum"), ":7:3: host: kind 'finite_volum'", "mean 'finite_volume'?"),
    "typo in a section": (("couple:", "cuople:"), ":21:1: cuople: unknown key; did you mean 'couple'?"),
    "duplicate key": (("  realisations: 3", "  grid: [8, 8]"), ":13:3: simulate.grid: given twice, first at", ":12:3"),
    "a number as text": (("1e-3", "'1e-3'"), ":4:3: flow.viscosity: must be a number, not the text '1e-3'"),
    "python tag": (("faults", "!!python/object/apply:os.system ['touch {effect}']"), ":1:7: tags (!) are not allowed"),
    "alias bomb": (("name: faults", ALIAS_BOMB + "name: faults"), ":1:4: anchors (&) and aliases (*) are not allowed"),
    "deep nesting": (("name: faults", "name: " + "[" * 10_000), ":1:26: nested deeper than 20 levels"),
}


def run(*arguments):
    command = [sys.executable, "-m", "hpcsurrogate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.fault(39, "mistakes in the experiment file")
@pytest.mark.parametrize("command", ["run", "train"])
@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_refused_with_its_place_and_does_nothing(command, case, tmp_path):
    (old, new), *expected = CASES[case]
    text = EXPERIMENT.format(run_dir=tmp_path / "run")
    assert text.count(old) == 1
    file = tmp_path / "experiment.yaml"
    file.write_text(text.replace(old, new.replace("{effect}", str(tmp_path / "effect"))))
    done = run(command, file)
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert done.stderr.startswith(f"hpcsurrogate: error: {file}:") and done.stderr.count("\n") == 1
    for words in expected:
        assert words in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.fault(39, "1e-3 is a number")
def test_the_file_itself_is_fine_and_1e_3_is_a_number(tmp_path):
    """YAML 1.1 reads it as text, and so does the library below ours."""
    file = tmp_path / "experiment.yaml"
    file.write_text(EXPERIMENT.format(run_dir=tmp_path / "run"))
    shown = run("config", "show", file)
    assert shown.returncode == 0 and "viscosity: 0.001\n" in shown.stdout, shown.stderr
