"""Where a host's CMake finds the native library's sources and LibTorch."""

import importlib.util
from pathlib import Path

from hpcsurrogate.core.errors import ConfigError


def cmake_dir() -> str:
    """Return what a host's CMAKE_PREFIX_PATH has to be: the native sources and torch's CMake folder.

    Returns
    -------
    str    two folders, separated by a semicolon as in a list of CMake

    Raises
    ------
    ConfigError    if torch, or the native part of this package, is not installed

    Notes
    -----
    torch is looked for but not imported, which would take a second of every configure.
    """
    native = Path(__file__).with_name("native")
    if not (native / "hpcsurrogateConfig.cmake").is_file():
        raise ConfigError(f"{native}: hpcsurrogateConfig.cmake is missing; install hpcsurrogate again")
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("torch is not installed; install it in the environment of this command")
    return f"{native};{Path(spec.submodule_search_locations[0]) / 'share/cmake'}"
