#!/usr/bin/env bash
# Print a folder with the sources of the OpenFOAM that Debian's package libopenfoam has installed, whose headers the
# packages do not hold. Fetched once, signatures checked, by an apt that knows no more than the sources' own list: the
# machine's lists stay as they are, and nobody has to be root. 40 MB stay in the cache folder; removing it is safe.
set -euo pipefail

modules=(OpenFOAM OSspecific finiteVolume fvOptions meshTools transportModels TurbulenceModels)

fail() {
    printf 'openfoam: error: %s\n' "$1" >&2
    exit 2
}

version=$(dpkg-query -W -f '${source:Version}' libopenfoam 2>/dev/null) ||
    fail "OpenFOAM is not installed; apt-get install openfoam libopenfoam"
# One folder for each choice of modules, so that a later version does not take what an earlier one has left.
choice=$(cksum <<<"${modules[*]}")
kept=${XDG_CACHE_HOME:-$HOME/.cache}/hpcsurrogate/openfoam-$version-${choice%% *}
if [ -d "$kept" ]; then
    printf '%s\n' "$kept"
    exit
fi
mkdir -p "${kept%/*}"
work=$(mktemp -d "$kept.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The mirrors that the binaries came from, asked for sources.
apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sort -u >"$work/sources.list"
[ -s "$work/sources.list" ] || fail "apt has no lists of packages; apt-get update"
mkdir -p "$work/lists/partial" "$work/archives/partial"
settings=(-qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o "APT::Sandbox::User=$(id -un)")
cd "$work"
{
    apt-get "${settings[@]}" update
    apt-get "${settings[@]}" source --download-only "openfoam=$version"
} >"$work/log" 2>&1 ||
    fail "the sources of openfoam $version cannot be fetched: $(tail -n 1 "$work/log")"

mkdir tree
tar -xf openfoam_*.orig.tar.* -C tree --strip-components 1 --wildcards '*/META-INFO/*' '*/wmake/wmakeLnInclude' \
    "${modules[@]/#/*/src/}"
for folder in OpenFOAM OSspecific/POSIX finiteVolume fvOptions meshTools transportModels \
    TurbulenceModels/{turbulenceModels,incompressible}; do
    bash tree/wmake/wmakeLnInclude -s "tree/src/$folder" 2>/dev/null  # its links are relative
done
mv -T tree "$kept" 2>/dev/null || [ -d "$kept" ] || fail "$kept cannot be written"
printf '%s\n' "$kept"
