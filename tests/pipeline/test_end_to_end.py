"""The whole pipeline as a user runs it: two MPI ranks, Horovod, files on disk, fresh processes."""

import html
import json
import re
import zipfile
from pathlib import Path

import matplotlib.image
import pytest
import torch

from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.core.yaml_loader import load_experiment
from hpcsurrogate.data.catalogue import Catalogue
from hpcsurrogate.data.check import check_directory
from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.models.build import load_weights
from hpcsurrogate.pipeline.stages import STAGES

STAGE_NAMES = tuple(stage.name for stage in STAGES)

SHORTER = ("train.apriori.epochs=1", "train.unrolled.iterations=4", "train.unrolled.snapshots=[1]")
FIGURES = ("cost", "distributions", "series", "spectra", "training", "vorticity")


def relative_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the last change of every file."""
    found = {name: (folder / name).stat() for name in relative_files(folder)}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def done_stages(stdout: str) -> list[str]:
    return [line.split()[0] for line in stdout.splitlines() if " done in " in line]


def test_every_stage_is_done_and_the_verdict_is_the_last_line(smoke):
    assert done_stages(smoke.finished.stdout) == list(STAGE_NAMES)
    *_, place, verdict = smoke.finished.stdout.splitlines()
    assert place == f"report: {smoke.run_dir / 'report.html'}"
    assert verdict == json.loads((smoke.run_dir / "couple.json").read_text())["verdict"]
    assert smoke.finished.errors == []


def test_run_directory_holds_what_the_architecture_page_says_and_no_more(smoke):
    shards = [f"realisation-{number:04d}-000000.hdf5" for number in range(4)]
    case = "unseen/half-viscosity"
    expected = {
        "config.yaml", "run.lock", "weights.safetensors", "metrics.jsonl", "model.pt", "model.pt.sha256",
        "model.md", "parity.json", "certified.pt", "certified.pt.sha256", "certified.md",
        "evaluate.json", "verify.json", "couple.json", "couple.npz", "report.html", "prepared/statistics.json",
        *(f"{folder}/.progress/{name}.json" for folder in ("raw", "prepared") for name in shards),
        *(f"{folder}/{name}" for folder in ("raw", "prepared") for name in (*shards, "catalogue.json")),
        *(f"{case}/raw/{name}" for name in (*shards[:2], "catalogue.json")),
        *(f"{case}/raw/.progress/{name}.json" for name in shards[:2]),
        *(f"{case}/{name}" for name in ("model.pt", "model.pt.sha256", "couple.json", "couple.npz")),
        "unseen.json",
        *(f"figures/{name}.png" for name in FIGURES),
        *(f"stages/{name}.json" for name in STAGE_NAMES),
    }  # fmt: skip
    found = relative_files(smoke.run_dir)
    assert {name for name in found if not name.startswith(("checkpoints/", "tensorboard/"))} == expected
    files = ("weights.safetensors", "best.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
    steps = {name.split("/")[1] for name in found if name.startswith("checkpoints/")}
    assert len(steps) == 3 and all(re.fullmatch(r"step-\d{8}", step) for step in steps)
    assert all(f"checkpoints/{step}/{name}" in found for step in steps for name in files)
    assert any(name.startswith("tensorboard/events.out.tfevents.") for name in found)
    assert check_directory(smoke.run_dir, deep=True) == []
    assert load_experiment(smoke.run_dir / "config.yaml") == load_experiment(smoke.config, [f"run_dir={smoke.run_dir}"])


def test_unseen_cases_run_the_same_artifact_and_constants_on_another_flow(smoke):
    folder = smoke.run_dir / "unseen" / "half-viscosity"
    assert (folder / "model.pt").read_bytes() == (smoke.run_dir / "model.pt").read_bytes()
    case = json.loads((smoke.run_dir / "unseen.json").read_text())["cases"]["half-viscosity"]
    assert case == json.loads((folder / "couple.json").read_text())
    named = {line["name"] for line in case["contenders"]}
    assert named == {"no closure", "Smagorinsky", "fourth-order fluxes", "learned"}
    assert case["num_starts"] == 2 and case["reference"]["duration"] == 0.8
    # Another viscosity and other starts: other flows than those of training.
    seen, unseen = (Catalogue.read(place / "raw") for place in (smoke.run_dir, folder))
    assert [catalogue.entry(0).parameters["viscosity"] for catalogue in (seen, unseen)] == [5e-3, 2.5e-3]


def test_both_ranks_took_part_and_training_went_down(smoke):
    for stage in ("simulate", "prepare", "train"):
        assert json.loads((smoke.run_dir / "stages" / f"{stage}.json").read_text())["ranks"] == 2
    records = [json.loads(line) for line in (smoke.run_dir / "metrics.jsonl").read_text().splitlines()]
    for phase in ("apriori", "unrolled"):
        validations = [record for record in records if record["phase"] == phase and "validation_loss" in record]
        losses = [record["validation_loss"] for record in validations]
        # 1 is "like no closure" in both phases.
        assert min(losses[1:]) < min(losses[0], 0.9)


def test_report_begins_with_the_verdict_and_stands_alone(smoke):
    page = (smoke.run_dir / "report.html").read_text()
    body = page.split("<body>")[1]
    first_line = next(line for line in re.sub(r"<[^>]+>", "", body).splitlines() if line.strip())
    assert html.unescape(first_line) == json.loads((smoke.run_dir / "couple.json").read_text())["verdict"]
    assert page.rstrip().endswith("</html>") and page.count("data:image/png;base64,") == len(FIGURES)
    # Nothing is fetched: every address in it is data, and there is no script.
    assert all(address.startswith("data:") for address in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "<script" not in page and "<link" not in page and "url(" not in page


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_not_blank(smoke, name):
    image = matplotlib.image.imread(smoke.run_dir / "figures" / f"{name}.png")[..., :3]
    assert min(image.shape[:2]) > 200
    # Lines, text and axes; an empty pair of axes covers about one pixel in a hundred.
    assert (image.min(axis=-1) < 0.9).mean() > 0.02 and image.std() > 0.05


def test_second_run_does_nothing(smoke, command):
    before = states(smoke.run_dir)
    again = command("run", smoke.config, f"run_dir={smoke.run_dir}")
    assert again.exit_code == 0 and again.errors == []
    lines = again.stdout.splitlines()
    assert lines[: len(STAGE_NAMES)] == [f"{name:<10} up to date" for name in STAGE_NAMES]
    assert lines[-1] == smoke.finished.stdout.splitlines()[-1]
    assert again.seconds < smoke.finished.seconds / 5
    after = states(smoke.run_dir)
    assert {name for name in after if after[name] != before.get(name)} <= {"config.yaml", "run.lock"}


def test_the_same_run_twice_gives_the_same_artifact_weights(smoke, command, tmp_path):
    again = command("run", smoke.config, f"run_dir={tmp_path / 'run'}", "--until", "export", timeout=180)
    assert again.exit_code == 0, again.stderr
    first, second = RunPaths(smoke.run_dir), RunPaths(tmp_path / "run")
    assert first.weights.read_bytes() == second.weights.read_bytes()
    with zipfile.ZipFile(first.model) as one, zipfile.ZipFile(second.model) as other:
        assert one.namelist() == other.namelist()
        different = [name for name in one.namelist() if one.read(name) != other.read(name)]
    # The metadata name the time, and torch numbers each archive; weights, code and golden vectors are the same.
    assert {Path(name).name for name in different} <= {"hpcsurrogate.json", "content.sha256", "serialization_id"}


def test_changed_training_is_done_again_with_all_after_it_and_nothing_before(smoke, command, tmp_path):
    run_dir = smoke.copy(tmp_path / "run")
    by_run = command("run", smoke.config, f"run_dir={run_dir}", *SHORTER, timeout=120)
    assert by_run.exit_code == 0, by_run.stderr
    assert done_stages(by_run.stdout) == list(STAGE_NAMES[STAGE_NAMES.index("train") :])
    old, new = states(smoke.run_dir), states(run_dir)
    assert all(new[name] == old[name] for name in old if name.startswith(("raw/", "prepared/")))
    shorter_weights = (run_dir / "weights.safetensors").read_bytes()
    assert shorter_weights != (smoke.run_dir / "weights.safetensors").read_bytes()

    # The same stage started by the user: `mpirun -np 2 hpcsurrogate train FILE`.
    other_dir = smoke.copy(tmp_path / "other")
    by_user = command("train", smoke.config, f"run_dir={other_dir}", *SHORTER, ranks=2)
    assert by_user.exit_code == 0, by_user.stderr
    assert json.loads((other_dir / "stages" / "train.json").read_text())["ranks"] == 2
    assert (other_dir / "weights.safetensors").read_bytes() == shorter_weights


def test_verify_passes_and_refuses_one_changed_byte(smoke, command, tmp_path):
    good = command("verify", smoke.run_dir / "model.pt")
    assert good.exit_code == 0, good.stderr
    difference = re.search(r"golden vectors reproduced: relative difference (\S+)", good.stdout)
    assert float(difference[1]) <= 1e-5 and "a copy with one changed byte is refused" in good.stdout
    run_dir = smoke.copy(tmp_path / "run")
    content = bytearray((run_dir / "model.pt").read_bytes())
    content[len(content) // 3] ^= 1
    (run_dir / "model.pt").write_bytes(content)
    bad = command("verify", run_dir / "model.pt")
    assert bad.exit_code == 5 and bad.stdout == ""
    assert len(bad.errors) == 1 and "model.pt: SHA-256 is" in bad.errors[0]


def test_artifact_in_python_equals_the_trained_network(smoke):
    experiment = load_experiment(smoke.run_dir / "config.yaml")
    closure = load_artifact(smoke.run_dir / "model.pt")
    eager = load_weights(experiment, RunPaths(smoke.run_dir))
    velocity = torch.randn(3, 2, 24, 24, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = eager(velocity)
        # The promise of the architecture page; the same kernels on the same weights leave float32 round-off at most.
        assert (closure(velocity) - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert closure.metadata.name == experiment.name and closure.metadata.host.kind == "finite_volume"
