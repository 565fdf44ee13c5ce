"""A folder of files that is published whole, and of which no bit can change unnoticed, whatever the files hold.

    step-00001200/
        state.json, weights.safetensors, ...    the files
        manifest.json                           schema version, step, digest of the configuration, size and SHA-256 of
                                                every file, and the SHA-256 of all this

Files are written under a hidden name beside the final one, synced, and get their name by one rename of the folder.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsurrogate.core.atomic import sync_path
from hpcsurrogate.core.provenance import digest

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2
# Prefixes of hidden folders: one that is being written or taken away, which nobody reads; and one whose name another
# is just getting, which is whole, and is read if the other is not there.
PARTIAL, REPLACED = ".partial-", ".replaced-"


class DamagedCheckpoint(Exception):
    """A folder that does not hold what its manifest promises. Whoever reads one decides what follows."""


@dataclass(frozen=True)
class Manifest:
    """What a folder promises to hold.

    Attributes
    ----------
    step : int [-]
    config_digest : str     SHA-256 of everything that decides what is trained
    files : dict            name -> {"bytes": size, "sha256": 64 hexadecimal digits}
    """

    step: int
    config_digest: str
    files: dict[str, dict[str, Any]]

    def to_bytes(self) -> bytes:
        """Return the only content of manifest.json that stands for this manifest."""
        content = {"schema_version": SCHEMA_VERSION, **vars(self)}
        return json_bytes(content | {"sha256": digest(content)})


def publish_folder(final: Path, contents: Iterable[tuple[str, bytes]], step: int, config_digest: str) -> None:
    """Write files and their manifest, then give the folder its name; one that has this name is replaced.

    Parameters
    ----------
    final : Path             .../step-00001200; the folders above it are made if missing
    contents : iterable      of (file name, bytes), taken one by one: only one has to be in memory
    step : int [-]
    config_digest : str

    Raises
    ------
    OSError    with the name of the file; nothing half-written is left, the older folders are as they were

    Notes
    -----
    Killed or refused at any system call, either the old folders are there or the new one is too
    (tests/faults/test_save_faults.py).
    """
    partial, replaced = _sibling(final, PARTIAL), _sibling(final, REPLACED)
    try:
        with _naming(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            _remove(partial)
            partial.mkdir()
        manifest = Manifest(step, config_digest, {})
        for name, content in contents:
            _write_synced(partial, name, content, final)
            manifest.files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        _write_synced(partial, MANIFEST, manifest.to_bytes(), final)
        with _naming(final):
            sync_path(partial)
            if final.exists():
                _remove(replaced)
                os.rename(final, replaced)
            os.rename(partial, final)
            sync_path(final.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk it would hold what the rest needs
        raise


def read_folder(folder: Path, names: Iterable[str]) -> tuple[Manifest, dict[str, bytes]]:
    """Check files against the manifest and return them.

    Parameters
    ----------
    folder : Path        .../step-00001200
    names : iterable     of the files wanted; each must be in the manifest

    Returns
    -------
    Manifest
    dict    name -> bytes, the very ones whose SHA-256 was right

    Raises
    ------
    DamagedCheckpoint    if anything is missing, cannot be read, or differs in a single bit from what was written
                         (tests/unit/train/test_checkpoint_files.py)
    """
    try:
        manifest = _read_manifest(folder)
        return manifest, {name: _read_checked(folder / name, manifest.files[name]) for name in names}
    except OSError as error:
        raise DamagedCheckpoint(f"{Path(error.filename or folder).name}: {error.strerror}") from error
    except KeyError as error:
        raise DamagedCheckpoint(f"{MANIFEST} does not name {error}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{MANIFEST} cannot be understood: {type(error).__name__}") from error


def remove_folder(folder: Path) -> None:
    """Take a folder away. Killed while it does, it leaves no half of one that looks like a damaged checkpoint."""
    if not folder.name.startswith(PARTIAL):
        doomed = _sibling(folder, PARTIAL)
        _remove(doomed)
        folder = folder.rename(doomed)
    shutil.rmtree(folder)


def json_bytes(content: dict) -> bytes:
    """Return JSON that is the same for the same content. Raises ValueError if a number is not finite."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def _read_manifest(folder: Path) -> Manifest:
    written = (folder / MANIFEST).read_bytes()
    content = json.loads(written)
    if content["schema_version"] != SCHEMA_VERSION:
        raise DamagedCheckpoint(f"{MANIFEST} has schema version {content['schema_version']}, not {SCHEMA_VERSION}")
    manifest = Manifest(content["step"], content["config_digest"], content["files"])
    if manifest.to_bytes() != written:
        raise DamagedCheckpoint(f"{MANIFEST} is not as it was written")
    return manifest


def _read_checked(path: Path, entry: dict[str, Any]) -> bytes:
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise DamagedCheckpoint(f"{path.name} has {size} bytes, {MANIFEST} says {entry['bytes']}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DamagedCheckpoint(f"{path.name} has another SHA-256 than {MANIFEST} says")
    return content


def _write_synced(partial: Path, name: str, content: bytes, final: Path) -> None:
    with _naming(final / name), open(partial / name, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give an error of the system the name that a user knows: it has none for a descriptor, or a hidden one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sibling(folder: Path, prefix: str) -> Path:
    return folder.with_name(prefix + folder.name)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
