"""Build the library for OpenFOAM and keep it, as host_builds.py does with programs; for tests and benchmarks.

Who wants to use it takes `make openfoam`.
"""

import subprocess
from pathlib import Path

import host_builds

SOURCE = host_builds.NATIVE / "openfoam"


def library() -> Path:
    """Return libhpcsurrogateOpenFOAM.so, built now if it is not there.

    Raises
    ------
    RuntimeError    if OpenFOAM's sources cannot be fetched, or it does not compile; the message holds what was said
    """
    done = subprocess.run(["bash", str(SOURCE / "sources.sh")], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return host_builds.build_host(SOURCE, "libhpcsurrogateOpenFOAM.so", f"-DOPENFOAM_SOURCES={done.stdout.strip()}")
