#!/usr/bin/env bash
# What the tests need from the system beside `make install`: strace, which makes system calls fail, a SLURM that they
# start themselves, and CMake and compilers for solvers in C, C++ and Fortran; their MPI is the one of `make install`.
# As root on Debian or Ubuntu it is installed; else one line says what to ask for.
set -euo pipefail

daemons=/usr/sbin:/sbin  # not on every user's PATH

fail() {
    printf 'test system: error: %s\n' "$1" >&2
    exit 2
}

has() {
    local program
    for program in "$@"; do
        PATH=$PATH:$daemons type -P "$program" >/dev/null || return 1
    done
}

# The Debian packages for what is missing on this machine, empty if nothing is.
missing_packages() {
    has strace || echo strace
    has sbatch slurmctld slurmd || echo slurm-wlm
    has munged || echo munge
    # SLURM's plugin asks for the library by its name without a version, which only the development package gives it.
    python3 -c 'import ctypes; ctypes.CDLL("libpmix.so")' 2>/dev/null || echo libpmix-dev
    local compiler
    for compiler in gcc g++ gfortran cmake; do
        has "$compiler" || echo "$compiler"
    done
}

# Those whose tests are skipped without them.
optional_packages() {
    { has pimpleFoam && [ -d /usr/share/doc/openfoam-examples/examples ]; } ||
        echo openfoam libopenfoam openfoam-examples
    has lmp || echo lammps
}

# Images of containers leave documentation out, where OpenFOAM's tutorials lie.
install() {
    [ $# = 0 ] || DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        -o 'Dpkg::Options::=--path-include=/usr/share/doc/openfoam-examples/*' "$@" >/dev/null || true
}

missing=$(missing_packages | paste -sd ' ')
optional=$(optional_packages | paste -sd ' ')
if [ -n "$missing$optional" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "test system: apt-get install $missing $optional"
    apt-get -qq update >/dev/null || true
    # shellcheck disable=SC2086  # the packages are words
    install $missing
    # shellcheck disable=SC2086
    install $optional
    missing=$(missing_packages | paste -sd ' ')
fi
[ -z "$missing" ] || fail "missing on this machine: $missing; ask an administrator for: apt-get install $missing"
strace -o /dev/null true 2>/dev/null || fail "strace may not trace here; allow it: in a container by --cap-add=SYS_PTRACE, on a machine by sysctl kernel.yama.ptrace_scope=1"
