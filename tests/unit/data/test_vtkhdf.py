"""A VTKHDF file as ParaView sees it: read with VTK's own reader, compared with the shards it was made from."""

import subprocess
import sys

import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline
from vtkmodules.vtkIOHDF import vtkHDFReader

from hpcsurrogate.core.errors import DataError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.data.catalogue import Catalogue, catalogue_shard, shard_name
from hpcsurrogate.data.shards import ShardHeader, ShardWriter
from hpcsurrogate.data.vtkhdf import write_vtkhdf

INTERVAL = 0.1
PLANE = {"grid_shape": (6, 4), "domain": (1.5, 2.0), "layout": "staggered"}
SOLID = {"grid_shape": (4, 6, 8), "domain": (1.0, 3.0, 2.0), "layout": "collocated"}
NAMES = ("velocity", "vorticity", "sgs_stress")


@pytest.fixture
def realisation(tmp_path):
    """realisation(geometry) -> (open reader of five snapshots in shards of three and two, arrays by name)."""
    generator = np.random.default_rng(0)

    def make(geometry):
        num_dims, records = len(geometry["grid_shape"]), []
        arrays = {
            name: generator.standard_normal(
                (5, FIELDS[name].num_components_in(num_dims), *geometry["grid_shape"])
            ).astype(np.float32)
            for name in NAMES
        }
        for first, count in ((0, 3), (3, 2)):
            header = ShardHeader("noise", 7, count, INTERVAL, first_snapshot=first, **geometry)
            with ShardWriter(tmp_path / shard_name(7, first), header, NAMES) as shard:
                for index in range(first, first + count):
                    shard.append({name: arrays[name][index] for name in NAMES})
            records.append(catalogue_shard(tmp_path / shard_name(7, first)))
        Catalogue.from_shards(tmp_path, records).write()
        return Catalogue.read(tmp_path).open(7), arrays

    return make


def read_vtk(path, time):
    """VTK's image nearest to a time, and all times of the file."""
    reader = vtkHDFReader()
    assert reader.CanReadFile(str(path))
    reader.SetFileName(str(path))
    reader.UpdateInformation()
    times = reader.GetOutputInformation(0).Get(vtkStreamingDemandDrivenPipeline.TIME_STEPS())
    reader.UpdateTimeStep(time)
    return reader.GetOutput(), times


def point_values(image, name):
    """(nx, ny, nz, component): VTK's points are numbered with x fastest."""
    nx, ny, nz = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetArray(name)).reshape(nz, ny, nx, -1).transpose(2, 1, 0, 3)


def test_a_plane_at_every_time(realisation, tmp_path):
    opened, arrays = realisation(PLANE)
    with opened as reader:
        write_vtkhdf(tmp_path / "plane.vtkhdf", reader)
    for index in range(5):
        image, times = read_vtk(tmp_path / "plane.vtkhdf", index * INTERVAL)
        assert times == tuple(index * INTERVAL for index in range(5))
        # Staggered: the image's points are the centres of the cells.
        assert (image.GetDimensions(), image.GetSpacing()) == ((6, 4, 1), (0.25, 0.5, 1.0))
        assert image.GetOrigin() == (0.125, 0.25, 0.0)
        velocity, stress = point_values(image, "velocity"), point_values(image, "sgs_stress")
        np.testing.assert_array_equal(velocity[:, :, 0, :2], np.moveaxis(arrays["velocity"][index], 0, -1))
        np.testing.assert_array_equal(velocity[..., 2], 0)
        np.testing.assert_array_equal(point_values(image, "vorticity")[:, :, 0, 0], arrays["vorticity"][index, 0])
        xx, xy, yy = arrays["sgs_stress"][index]
        nought = np.zeros_like(xx)
        expected = np.stack((xx, xy, nought, xy, yy, nought, nought, nought, nought), axis=-1)
        np.testing.assert_array_equal(stress[:, :, 0], expected)


def test_one_snapshot_of_a_box(realisation, tmp_path):
    opened, arrays = realisation(SOLID)
    with opened as reader:
        write_vtkhdf(tmp_path / "box.vtkhdf", reader, snapshot=-1)
    image, times = read_vtk(tmp_path / "box.vtkhdf", 0.0)
    assert times is None and image.GetFieldData().GetArray("TimeValue").GetValue(0) == 4 * INTERVAL
    assert (image.GetDimensions(), image.GetSpacing()) == ((4, 6, 8), (0.25, 0.5, 0.25))
    assert image.GetOrigin() == (0.0, 0.0, 0.0)
    np.testing.assert_array_equal(point_values(image, "velocity"), np.moveaxis(arrays["velocity"][4], 0, -1))
    np.testing.assert_array_equal(point_values(image, "vorticity")[..., 0], arrays["vorticity"][4, 0])
    rows = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])  # of xx, xy, xz, yy, yz, zz
    expected = np.moveaxis(arrays["sgs_stress"][4][rows.ravel()], 0, -1)
    np.testing.assert_array_equal(point_values(image, "sgs_stress"), expected)


def test_a_snapshot_that_is_not_there_leaves_no_file(realisation, tmp_path):
    opened, _ = realisation(PLANE)
    with opened as reader, pytest.raises(DataError, match="realisation-0007: there is no snapshot 5; .* has 5"):
        write_vtkhdf(tmp_path / "none.vtkhdf", reader, snapshot=5)
    assert not list(tmp_path.glob("*.vtkhdf"))


def test_a_disk_that_is_too_small_is_one_line(realisation, tmp_path):
    """The process has files of at most 64 KiB, the image is larger: HDF5 must neither crash nor leave a part of it."""
    opened, _ = realisation({**PLANE, "grid_shape": (64, 32)})
    del opened
    script = (
        "import resource; from hpcsurrogate.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        f"main(['show', {str(tmp_path)!r}, '--vtkhdf', {str(tmp_path / 'large.vtkhdf')!r}, '--realisation', '7'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert "larger than files may be here" in done.stderr
    assert not list(tmp_path.glob("*large.vtkhdf"))
