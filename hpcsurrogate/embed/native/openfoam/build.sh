#!/usr/bin/env bash
# Build libhpcsurrogateOpenFOAM.so in the folder given, by default build/openfoam, against the OpenFOAM of Debian's
# packages, and print the line for controlDict. `hpcsurrogate` has to be on the PATH.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-build/openfoam}
sources=$(bash "$here/sources.sh")
prefix=$(hpcsurrogate cmake-dir)
cmake -S "$here" -B "$folder" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" \
    -DOPENFOAM_SOURCES="$sources" >/dev/null
cmake --build "$folder" --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-2}"
printf 'in system/controlDict:  libs ("%s/libhpcsurrogateOpenFOAM.so");\n' "$(cd "$folder" && pwd)"
