"""Where everything of one experiment lies: the names inside a run directory, and nothing else.

The layout is the one of docs/architecture.md, "Run directory". Properties only name paths; they create nothing.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """Names of the files and folders of one run.

    Parameters
    ----------
    run_dir : str or Path    folder of the run; relative paths count from the working directory
    """

    run_dir: Path

    def __post_init__(self):
        object.__setattr__(self, "run_dir", Path(self.run_dir))

    @property
    def config(self) -> Path:
        """The resolved configuration, as used."""
        return self.run_dir / "config.yaml"

    @property
    def raw(self) -> Path:
        """Fine shards and their catalogue, written by simulate."""
        return self.run_dir / "raw"

    @property
    def prepared(self) -> Path:
        """Coarse shards and their catalogue, written by prepare."""
        return self.run_dir / "prepared"

    def prepared_through(self, number: int) -> Path:
        """Coarse shards of a filter: 0 for prepare.filter, 1 for the first of prepare.more_filters."""
        return self.prepared if number == 0 else self.prepared / f"filter-{number}"

    @property
    def statistics(self) -> Path:
        """Scales of the training split, written by prepare."""
        return self.prepared / "statistics.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of step-00001200/ folders, written by train."""
        return self.run_dir / "checkpoints"

    @property
    def weights(self) -> Path:
        """Weights of the trained network."""
        return self.run_dir / "weights.safetensors"

    @property
    def metrics(self) -> Path:
        """Training curves, one JSON object a line."""
        return self.run_dir / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files."""
        return self.run_dir / "tensorboard"

    @property
    def model_manifest(self) -> Path:
        """Checksum of the artifact, without which it is refused."""
        return self.run_dir / "model.pt.sha256"

    @property
    def evaluation(self) -> Path:
        """A-priori scores."""
        return self.run_dir / "evaluate.json"

    @property
    def model(self) -> Path:
        """The TorchScript artifact."""
        return self.run_dir / "model.pt"

    @property
    def model_card(self) -> Path:
        """What the artifact is and what was measured on it, for people."""
        return self.run_dir / "model.md"

    @property
    def pointwise(self) -> Path:
        """The artifact of kind pointwise, of networks that have one."""
        return self.run_dir / "pointwise.pt"

    @property
    def fine_case(self) -> Path:
        """Copy of an OpenFOAM case in which simulate runs it."""
        return self.run_dir / "case"

    @property
    def fine_case_record(self) -> Path:
        """What was run there, written last."""
        return self.fine_case / "run.json"

    @property
    def coarse_case(self) -> Path:
        """Copy of the coarse OpenFOAM case in which its mesh is made."""
        return self.run_dir / "coarse"

    @property
    def calibration_runs(self) -> Path:
        """Folder of a copy of the coarse case for each combination of gains, run by calibrate."""
        return self.run_dir / "calibrate"

    @property
    def calibration(self) -> Path:
        """Gains and their errors."""
        return self.run_dir / "calibrate.json"

    @property
    def calibrated(self) -> Path:
        """The artifact of kind pointwise with the best gains."""
        return self.run_dir / "calibrated.pt"

    @property
    def coarse_runs(self) -> Path:
        """Folder of a copy of the coarse case for each model, run by couple."""
        return self.run_dir / "couple"

    @property
    def cells(self) -> Path:
        """Samples of single cells and their catalogue, written by ingest."""
        return self.run_dir / "cells"

    @property
    def fit(self) -> Path:
        """Scores and training curve of a closure trained on them."""
        return self.run_dir / "fit.json"

    @property
    def sweep(self) -> Path:
        """Folder of a folder for every LAMMPS run, written by simulate."""
        return self.run_dir / "sweep"

    @property
    def sweep_record(self) -> Path:
        """The runs that are finished, in one list."""
        return self.sweep / "sweep.json"

    @property
    def material(self) -> Path:
        """Samples of a constitutive law, written by ingest."""
        return self.run_dir / "material.hdf5"

    @property
    def proposed(self) -> Path:
        """Runs that joined the sweep because the law asked for them, and those it would ask for next."""
        return self.run_dir / "proposed.json"

    @property
    def channel(self) -> Path:
        """Folder of the two LAMMPS runs of a channel, written by couple."""
        return self.run_dir / "channel"

    @property
    def law(self) -> Path:
        """The artifact of a fluid's law, written by fit."""
        return self.run_dir / "law.pt"

    @property
    def law_manifest(self) -> Path:
        """Checksum of it."""
        return self.run_dir / "law.pt.sha256"

    @property
    def law_card(self) -> Path:
        """The card of it."""
        return self.run_dir / "law.md"

    @property
    def compiled(self) -> Path:
        """The artifact compiled for one kind of processor."""
        return self.run_dir / "model.pt2"

    @property
    def pointwise_compiled(self) -> Path:
        """The artifact of kind pointwise compiled for one kind of processor."""
        return self.run_dir / "pointwise.pt2"

    @property
    def exported_weights(self) -> Path:
        """The artifact's weights and metadata alone."""
        return self.run_dir / "model.safetensors"

    @property
    def parity(self) -> Path:
        """How far apart all exported forms and the eager network are."""
        return self.run_dir / "parity.json"

    @property
    def certified(self) -> Path:
        """The artifact once more, with the verdict of the coarse runs in its certificate."""
        return self.run_dir / "certified.pt"

    @property
    def certified_manifest(self) -> Path:
        """Checksum of the certified artifact."""
        return self.run_dir / "certified.pt.sha256"

    @property
    def certified_card(self) -> Path:
        """The card of the certified artifact."""
        return self.run_dir / "certified.md"

    @property
    def verification(self) -> Path:
        """What verify measured on the artifact."""
        return self.run_dir / "verify.json"

    @property
    def coupling(self) -> Path:
        """A-posteriori scores and the verdict."""
        return self.run_dir / "couple.json"

    @property
    def coupling_fields(self) -> Path:
        """Series, spectra and fields of the coarse runs."""
        return self.run_dir / "couple.npz"

    @property
    def unseen(self) -> Path:
        """Scores on the unseen cases."""
        return self.run_dir / "unseen.json"

    @property
    def unseen_cases(self) -> Path:
        """Run directories of the unseen cases, one a case."""
        return self.run_dir / "unseen"

    @property
    def figures(self) -> Path:
        """PNG plots of the report."""
        return self.run_dir / "figures"

    @property
    def report(self) -> Path:
        """The self-contained page."""
        return self.run_dir / "report.html"

    @property
    def stages(self) -> Path:
        """Records of finished stages, by which an unchanged stage is skipped."""
        return self.run_dir / "stages"

    @property
    def lock(self) -> Path:
        """Held while a pipeline works in this folder."""
        return self.run_dir / "run.lock"
