"""The native library, programs built against it as a user would, and artifacts for them.

`make hosts` runs the tests with --long: as many random inputs, processes and sanitizers as docs/hosts.md promises.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.hosts import artifacts, compiled_form, native

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import host_builds


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long forms of the tests of hosts")


@pytest.fixture(scope="session")
def is_long(request) -> bool:
    """Whether the long form is asked for."""
    return request.config.getoption("--long", default=False)


@pytest.fixture(scope="session", autouse=True)
def compiled_form_in_the_background(request) -> Iterator[None]:
    """Begin to make the slowest of what the tests need, on the core that most of them leave idle."""
    needed = any(item.path.name == "test_parity.py" for item in request.session.items)
    if not needed or compiled_form.kept(torch.float32).exists():
        yield
        return
    command = [sys.executable, "-m", "tests.hosts.compiled_form"]
    process = subprocess.Popen(command, cwd=host_builds.TREE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    process.terminate()  # what fails in it fails again in test_parity.py, which says why
    process.wait()


@pytest.fixture(scope="session")
def native_build() -> Path:
    """The folder that holds libhpcsurrogate.so."""
    return host_builds.native_build()


@pytest.fixture(scope="session")
def build_host() -> Callable[..., Path]:
    """`build_host(source_dir, target, *cmake_options, sanitizer=None)` -> the program, built against the library."""
    return host_builds.build_host


@pytest.fixture(scope="session")
def grid_artifact(tmp_path_factory) -> Path:
    """Kind grid, float32: velocity (b, 2, nx, ny) on staggered cells, any sizes."""
    return artifacts.write_grid(tmp_path_factory.mktemp("grid") / "model.pt")


@pytest.fixture(scope="session")
def grid_artifact64(tmp_path_factory) -> Path:
    """The same in float64."""
    return artifacts.write_grid(tmp_path_factory.mktemp("grid64") / "model.pt", torch.float64)


@pytest.fixture(scope="session")
def box_artifact(tmp_path_factory) -> Path:
    """Kind grid, float32, three dimensions: velocity (b, 3, nx, ny, nz) on staggered cells, any sizes."""
    return artifacts.write_grid_3d(tmp_path_factory.mktemp("box") / "model.pt")


@pytest.fixture(scope="session")
def pointwise_artifact(tmp_path_factory) -> Path:
    """Kind pointwise, float32, two dimensions: gradient (n, 4) and width (n,)."""
    return artifacts.write_pointwise_2d(tmp_path_factory.mktemp("pointwise") / "pointwise.pt")


@pytest.fixture
def library(native_build) -> Iterator[native.Library]:
    """The C ABI in this process; what a test has opened is closed at its end."""
    loaded = native.Library(native_build)
    yield loaded
    loaded.close()
