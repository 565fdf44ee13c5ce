"""What a call must leave as it was, and what of the host must not change a call: shown by programs of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent / "native_api"
SUITE_CALLS, LONG_CALLS = {"grid": 6_000, "pointwise": 14_000}, {"grid": 500_000, "pointwise": 500_000}


@pytest.fixture(scope="session")
def random_inputs(build_host) -> Path:
    return build_host(PROJECT, "random_inputs")


@pytest.fixture(scope="session")
def shared_closure(build_host) -> Path:
    return build_host(PROJECT, "shared_closure")


def numbers(printed: str) -> dict[str, int]:
    """`name number name number ...` as a table."""
    words = printed.split()
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)}


def run(program: Path, *arguments, timeout: float = 120, **environment: str) -> dict[str, int]:
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    assert done.stderr == ""
    return numbers(done.stdout)


@pytest.mark.parametrize("kind", ["grid", "pointwise"])
def test_random_inputs_under_traps_leave_the_host_as_it_was(kind, random_inputs, is_long, request):
    artifact = request.getfixturevalue(f"{kind}_artifact")
    calls = (LONG_CALLS if is_long else SUITE_CALLS)[kind]
    seen = run(random_inputs, artifact, calls, 1, 1, timeout=3600 if is_long else 120)
    assert seen["calls"] == calls
    # Every reason to fall back was met, if the network can meet it, and so was a field that is all wrong.
    assert min(seen["outside"], seen["not_finite"], seen["too_much"]) > 0
    assert kind == "grid" or seen["failed"] > 0


@pytest.mark.parametrize("kind", ["grid", "pointwise"])
def test_openmp_threads_of_the_host_do_not_trap_and_keep_their_state(kind, random_inputs, is_long, request):
    artifact = request.getfixturevalue(f"{kind}_artifact")
    assert run(random_inputs, artifact, 10_000 if is_long else 200, 2, 2, timeout=1200)["cells"] > 0


@pytest.mark.parametrize(("threads", "of_mkl"), [(1, "2"), (2, "4")])
def test_a_number_of_threads_for_mkl_alone_does_not_count(threads, of_mkl, random_inputs, grid_artifact):
    """MKL, which is inside torch, would start its threads in the team of the host, whose traps are on."""
    assert run(random_inputs, grid_artifact, 200, 5, threads, MKL_NUM_THREADS=of_mkl)["calls"] == 200


COUNTING_HOST = """
import resource, sys
from pathlib import Path
import numpy as np
from tests.hosts.native import Library

closure, num_calls = Library(Path(sys.argv[1])).open(Path(sys.argv[2])), 50
velocity = np.zeros((1, 2, 64, 64), np.float32)
faults = [0, 0]
for part in (0, 1):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(num_calls):
        closure.apply([velocity], velocity)
    faults[part] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults[1] / num_calls)
"""


def test_memory_of_a_call_serves_the_next(native_build, grid_artifact):
    """Without what hpcs_open does about it, some 260 pages of 4 KiB are mapped anew in each call."""
    command = [sys.executable, "-c", COUNTING_HOST, str(native_build), str(grid_artifact)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert float(done.stdout) < 30, done.stderr


FORKING_HOST = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tests.hosts.native import Library

closure = Library(Path(sys.argv[1])).open(Path(sys.argv[2]))
velocity = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 2, 128, 128)).astype(np.float32)
before, after = np.empty_like(velocity), np.empty_like(velocity)
closure.apply([velocity], before)
child = os.fork()
if child == 0:
    signal.alarm(30)
    status = closure.apply([velocity], after).status
    os._exit(status if np.array_equal(before, after) else 99)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_of_the_host_may_call_too(native_build, grid_artifact):
    command = [sys.executable, "-c", FORKING_HOST, str(native_build), str(grid_artifact)]
    environment = os.environ | {"MKL_NUM_THREADS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n", done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["grid", "pointwise"])
def test_threads_that_share_a_closure_get_the_bits_of_one_thread(kind, shared_closure, is_long, request):
    artifact = request.getfixturevalue(f"{kind}_artifact")
    assert run(shared_closure, artifact, 8, 1000 if is_long else 30, timeout=1200)["different"] == 0


@pytest.mark.parametrize("kind", ["grid", "pointwise"])
def test_sanitizers_find_no_wrong_address_leak_or_undefined_behaviour(kind, build_host, is_long, request):
    artifact = request.getfixturevalue(f"{kind}_artifact")
    calls = 20_000 if is_long else 100
    for threads in (1, 2):
        run(build_host(PROJECT, "random_inputs", sanitizer="address"), artifact, calls, 3, threads, timeout=1200)
    run(build_host(PROJECT, "shared_closure", sanitizer="address"), artifact, 4, 8)


@pytest.mark.parametrize("kind", ["grid", "pointwise"])
def test_a_sanitizer_finds_no_race(kind, build_host, is_long, request):
    if not is_long:
        pytest.skip("compiles the library once more, for `make hosts`")
    artifact = request.getfixturevalue(f"{kind}_artifact")
    run(build_host(PROJECT, "shared_closure", sanitizer="thread"), artifact, 8, 200, timeout=1200)
