import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click
import h5py
import numpy as np
import pytest

import hpcsurrogate
from hpcsurrogate.cli import main as cli
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.parallel.launch import run_ranks
from hpcsurrogate.pipeline.stages import STAGES

CONFIG = str(Path(__file__).parents[3] / "configs" / "demo.yaml")


def call(capsys, *arguments):
    """Run the command line in this process; return exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
        sys.exit(0)
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


def test_help_is_quick_and_loads_no_room():
    """Half a second is what nobody notices; the best of three, since a loaded machine may stop any of them."""
    script = (
        "import sys; from hpcsurrogate.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'pydantic', 'h5py', 'mpi4py') if name in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        seconds.append(time.monotonic() - started)
        assert shown.endswith("[]\n") and "doctor" in shown
    assert min(seconds) < 0.5


def test_every_stage_is_a_command_with_its_summary():
    for stage in STAGES:
        assert cli.command_line.commands[stage.name].get_short_help_str(limit=200) == stage.summary


def test_commands_stand_in_the_order_of_the_data():
    names = cli.command_line.list_commands(click.Context(cli.command_line))
    assert names[: len(STAGES) + 1] == ["run", *(stage.name for stage in STAGES)]


def test_version(capsys):
    assert call(capsys, "--version")[1].strip() == f"hpcsurrogate, version {hpcsurrogate.__version__}"


def test_no_command_shows_help(capsys):
    code, out, _ = call(capsys)
    assert code == 2 and "Commands:" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rn"], "Did you mean 'run'"),
        (["run"], "Missing argument 'FILE'"),
        (["run", CONFIG, "--frm", "train"], "--frm"),
        (["run", "nothing.yaml"], "nothing.yaml: file does not exist"),
        (["run", CONFIG, "--from", "trian"], "stage 'trian' does not exist"),
        (["train", CONFIG, "trian.patience=3"], "did you mean 'train'?"),
        (["simulate", CONFIG, "prepare.split.test=[9]"], "realisation 9 does not exist"),
        (["verify", "nothing.pt"], "nothing.pt: file does not exist"),
        (["config", "show", CONFIG, "seed"], "is no section.key=value"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(capsys, arguments, expected):
    code, out, err = call(capsys, *arguments)
    assert code == 2 and out == ""
    assert err.startswith("hpcsurrogate: error: ") and err.count("\n") == 1
    assert expected in err


def test_show_prints_what_loads_again(capsys, tmp_path):
    code, out, _ = call(capsys, "config", "show", CONFIG, "train.patience=3")
    copy = tmp_path / "copy.yaml"
    copy.write_text(out)
    assert code == 0 and load_experiment(copy) == load_experiment(CONFIG, ["train.patience=3"])


def test_schema_is_json_schema(capsys):
    schema = json.loads(call(capsys, "config", "schema")[1])
    assert {"flow", "host", "simulate", "prepare", "train", "couple"} <= set(schema["required"])


def test_a_reader_that_has_had_enough_is_no_fault():
    command = f"{shlex.quote(sys.executable)} -m hpcsurrogate config schema | head -1"
    finished = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert finished.stdout == "{\n" and finished.stderr == ""


def test_closed_output_is_no_fault(tmp_path):
    """The stage has a guard, which wants its output empty before it forks."""
    command = f"{shlex.quote(sys.executable)} -m hpcsurrogate train {tmp_path}/nothing.yaml >&-"
    finished = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr.startswith("hpcsurrogate: error: ") and finished.stderr.count("\n") == 1


def test_new_writes_a_valid_experiment_once(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "new", "eddies")[0] == 0
    experiment = load_experiment("eddies.yaml")
    assert experiment.name == "eddies" and experiment.run_dir == "runs/eddies"
    assert "hpcsurrogate run eddies.yaml" in Path("eddies.yaml").read_text()
    code, _, err = call(capsys, "new", "eddies.yaml")
    assert code == 2 and "exists already" in err
    code, out, _ = call(capsys, "run", "eddies.yaml", "--dry-run")
    assert code == 0 and out.count("would run") == len(STAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eddies.yaml"]


def test_new_leaves_nothing_under_an_impossible_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, "new", "two words")
    assert code == 2 and "name: must match" in err
    assert list(tmp_path.iterdir()) == []


def test_check_of_a_folder_without_data_is_exit_code_3(capsys, tmp_path):
    code, out, err = call(capsys, "check", "--quick", str(tmp_path))
    assert code == 3 and str(tmp_path) in out and "1 finding(s)" in err


@pytest.fixture
def run_folder(tmp_path):
    """A run directory with two realisations of three snapshots in raw/, and one of them in prepared/."""
    for folder, realisations in (("raw", (0, 1)), ("prepared", (0,))):
        records = []
        for realisation in realisations:
            header = ShardHeader("noise", realisation, 3, 0.1, (6, 4), (1.5, 1.0))
            path = tmp_path / folder / shard_name(realisation, 0)
            with ShardWriter(path, header, ("velocity",)) as shard:
                for _ in range(3):
                    shard.append({"velocity": np.ones((2, 6, 4), dtype=np.float32)})
            records.append(catalogue_shard(path))
        Catalogue.from_shards(tmp_path / folder, records).write()
    return tmp_path


def test_show_prints_a_table_of_every_data_directory(capsys, run_folder):
    code, out, _ = call(capsys, "show", str(run_folder))
    assert code == 0 and out.index("raw: 2 realisation(s), 6 snapshots") < out.index("prepared: 1 realisation(s)")
    assert call(capsys, "show", str(run_folder / "raw"), "--realisation", "1")[1].count("realisation(s)") == 1


def test_show_writes_what_paraview_opens(capsys, run_folder):
    file = run_folder / "fields.vtkhdf"
    code, out, _ = call(capsys, "show", str(run_folder / "raw"), "--realisation", "1", "--vtkhdf", str(file))
    assert code == 0 and out == f"{file}: written; open it in ParaView\n"
    with h5py.File(file) as opened:
        assert opened["VTKHDF/PointData/velocity"].shape == (3, 4, 6, 3)
    call(capsys, "show", str(run_folder / "prepared"), "--snapshot", "-1", "--vtkhdf", str(file))
    with h5py.File(file) as opened:
        assert opened["VTKHDF/PointData/velocity"].shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("folder", "options", "code", "expected"),
    [
        ("nowhere", [], 3, "holds no catalogue.json"),
        ("raw", ["--realisation", "7"], 3, "no realisation 7"),
        ("raw", ["--snapshot", "0"], 2, "add --vtkhdf FILE"),
        ("raw", ["--vtkhdf", "a.vtkhdf"], 2, "holds 2 realisations; choose with --realisation N"),
        ("raw", ["--vtkhdf", "a.vtk", "--realisation", "0"], 2, "a.vtk: give it the ending .vtkhdf"),
        ("", ["--vtkhdf", "a.vtkhdf"], 2, "several directories hold data; name one of"),
        ("prepared", ["--vtkhdf", "a.vtkhdf", "--snapshot", "3"], 3, "realisation-0000: there is no snapshot 3"),
    ],
)
def test_show_names_what_cannot_be_shown(capsys, run_folder, monkeypatch, folder, options, code, expected):
    monkeypatch.chdir(run_folder)
    found, out, err = call(capsys, "show", str(run_folder / folder), *options)
    assert (found, out) == (code, "") and expected in err and err.count("\n") == 1
    assert not list(run_folder.glob("*.vtk*"))


def test_help_leads_who_looks_for_ingest(capsys):
    out = " ".join(call(capsys, "--help")[1].split())
    assert "ingest your own" in out and "simulate.kind: well" in out


def test_ranks_end_together_with_one_line_and_the_right_code(capfd):
    """Rank 0 alone reads the file; the other rank, which waits for it, must be ended too."""
    started = time.monotonic()
    assert run_ranks(["train", CONFIG, "train.patiense=3"], 2) == 2
    assert time.monotonic() - started < 20
    err = capfd.readouterr().err
    assert err.count("hpcsurrogate: error:") == 1
    assert "hpcsurrogate: error: rank 0: override 'train.patiense=3'" in err
