"""The compiled form that the tests of parity compare: made once, since it takes a minute, and kept between sessions."""

import hashlib
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import host_builds
import random_artifacts

from hpcsurrogate.embed.artifact import load_artifact
from hpcsurrogate.export.grid_closure import GridClosure
from hpcsurrogate.export.script import write_artifact
from tests.hosts.artifacts import FLOW, HOST

MODEL = {"kind": "quadratic_stencil", "channels": 2, "output_channels": 1}
# What the compiled file depends on, in hpcsurrogate/.
SOURCES = (
    "embed/compiled.py", "export/compiled.py", "export/grid_closure.py", "export/fallback.py",
    "models/quadratic_stencil.py", "physics/differences.py", "core/metadata.py",
)  # fmt: skip


def write_torchscript(path: Path, dtype: torch.dtype) -> GridClosure:
    """Write the network as TorchScript; return it."""
    return random_artifacts.write_random_artifact(
        path, MODEL, HOST, FLOW, random_artifacts.random_velocity(HOST, dtype)
    )


def kept(dtype: torch.dtype) -> Path:
    """Where the compiled form of these sources lies, or will lie."""
    made_from = [(host_builds.TREE / "hpcsurrogate" / source).read_bytes() for source in SOURCES]
    made_from += [Path(random_artifacts.__file__).read_bytes(), f"{MODEL} {dtype}".encode()]
    return host_builds.cache_folder() / f"parity-{hashlib.sha256(b''.join(made_from)).hexdigest()[:16]}.pt2"


def compiled_form(dtype: torch.dtype) -> bytes:
    """Return the compiled form, made now if it is not there; who comes while another makes it waits."""
    from hpcsurrogate.export.compiled import compiled_bytes

    path = kept(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    with host_builds.locked(path.with_suffix(".lock")):
        if not path.exists():
            with tempfile.TemporaryDirectory() as folder:
                eager = write_torchscript(Path(folder) / "model.pt", dtype)
                artifact = load_artifact(Path(folder) / "model.pt")
            golden = artifact.golden_inputs, artifact.golden_output
            write_artifact(path, compiled_bytes(eager, artifact.metadata, *golden))
    return path.read_bytes()


if __name__ == "__main__":
    compiled_form(torch.float32)
