"""What the kernel and control groups of either version say is free, on file trees made by the test."""

import os

import pytest

from hpcsurrogate.core.errors import ConfigError, DataError
from hpcsurrogate.parallel.node_memory import free_memory, require_shared_room, shared_room

GIBIBYTE = 2**30


@pytest.fixture
def kernel(tmp_path):
    """kernel({path: text}) -> a root with 16 GiB available and these files."""

    def write(files):
        for name, text in {"proc/meminfo": "MemTotal: 99 kB\nMemAvailable: 16777216 kB\n", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")
        return tmp_path

    return write


def test_without_a_limit_the_kernels_estimate_holds(kernel):
    assert free_memory(kernel({})) == 16 * GIBIBYTE
    unlimited = {"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/memory.max": "max\n"}
    assert free_memory(kernel(unlimited)) == 16 * GIBIBYTE


def test_version_2_counts_the_enclosing_group_and_not_the_cache(kernel):
    files = {
        "proc/self/cgroup": "0::/job/step\n",
        "sys/fs/cgroup/job/step/memory.max": "max\n",
        "sys/fs/cgroup/job/memory.max": f"{8 * GIBIBYTE}\n",
        "sys/fs/cgroup/job/memory.current": f"{5 * GIBIBYTE}\n",
        "sys/fs/cgroup/job/memory.stat": f"anon {3 * GIBIBYTE}\ninactive_file {2 * GIBIBYTE}\n",
    }
    assert free_memory(kernel(files)) == 5 * GIBIBYTE


def test_version_1_and_a_path_that_the_container_does_not_show(kernel):
    files = {
        "proc/self/cgroup": "9:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIBIBYTE}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIBIBYTE}\n",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
    }
    assert free_memory(kernel(files)) == GIBIBYTE


def test_a_group_above_its_limit_has_nothing_free(kernel):
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": "1000\n",
        "sys/fs/cgroup/memory.current": "2000\n",
    }
    assert free_memory(kernel(files)) == 0


def test_a_kernel_that_does_not_say_is_refused(tmp_path):
    with pytest.raises(DataError, match="no MemAvailable"):
        free_memory(tmp_path)


def test_this_machine_has_some_memory_free():
    assert 0 < free_memory() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_shared_memory_beyond_the_room_is_refused_with_both_sizes(monkeypatch, tmp_path):
    monkeypatch.setenv("OMPI_MCA_osc_sm_backing_directory", str(tmp_path))
    require_shared_room(1)
    with pytest.raises(ConfigError, match=r"\d+ MiB of shared memory wanted, \d+ MiB free.*--shm-size") as caught:
        require_shared_room(2 * shared_room() + 1)
    assert str(tmp_path) in str(caught.value)
