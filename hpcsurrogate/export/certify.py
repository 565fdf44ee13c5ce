"""The stage certify: the same network once more, with the verdict of the coarse runs in its certificate."""

import hashlib
from typing import Any

from hpcsurrogate.core.atomic import read_json
from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.errors import DataError, ModelRefusedError
from hpcsurrogate.core.log import get_logger
from hpcsurrogate.core.paths import RunPaths
from hpcsurrogate.embed.archive import METADATA_ENTRY, check_archive
from hpcsurrogate.embed.artifact import load_artifact, metadata_of, read_checked
from hpcsurrogate.export.archive_file import pack
from hpcsurrogate.export.script import write_artifact

_OF_THE_RUNS = ("verdict", "helped", "correlation_threshold", "num_starts", "equivalent")
_OF_A_CONTENDER = (
    "name", "kind", "host", "constant", "decorrelation_time", "decorrelation_times", "decorrelation_interval",
    "stable", "blow_up_time", "endurance", "spectrum_log_error", "cost_ratio_time", "fallback_fraction",
)  # fmt: skip


def run_certify(experiment: Experiment, paths: RunPaths) -> None:
    """Write `certified.pt`, its checksum and its card.

    Parameters
    ----------
    experiment : Experiment
    paths : RunPaths    needs model.pt and couple.json

    Raises
    ------
    DataError            if one of them is missing, or couple.json is of another form
    ModelRefusedError    if model.pt is not what was exported, or not the file that the coarse runs were made with

    Notes
    -----
    All entries but the metadata keep their bytes, so that what was verified and run is what is certified. Without a
    learned contender among the runs the certificate stays `unverified` (tests/unit/export/test_certify.py).
    """
    coupling = read_json(paths.coupling)
    content = read_checked(paths.model)
    metadata = metadata_of(check_archive(content, paths.model), paths.model)
    verdict = a_posteriori(coupling, paths)
    if verdict != "unverified":
        ran, found = coupling.get("artifact"), hashlib.sha256(content).hexdigest()
        if ran != found:
            raise ModelRefusedError(
                f"{paths.coupling}: was made with an artifact of SHA-256 {str(ran)[:12]}..., {paths.model.name} has "
                f"{found[:12]}...; run `hpcsurrogate couple` again"
            )
    certificate = metadata.certificate.model_copy(update={"a_posteriori": verdict})
    metadata = metadata.model_copy(update={"certificate": certificate})
    content = pack(content, {METADATA_ENTRY: metadata.to_json().encode()})
    write_artifact(paths.certified, content, metadata)
    load_artifact(paths.certified)
    said = "unverified: no learned contender" if verdict == "unverified" else verdict["verdict"]
    get_logger("certify").info("wrote %s: %s", paths.certified, said)


def a_posteriori(coupling: dict[str, Any], paths: RunPaths) -> str | dict[str, Any]:
    """Return what the certificate says of the coarse runs.

    Parameters
    ----------
    coupling : dict     content of couple.json
    paths : RunPaths    for messages

    Returns
    -------
    str or dict    "unverified" if no learned closure ran; else `verdict`, `helped`, `correlation_threshold`,
                   `num_starts`, `starts_overlap`, `equivalent`, and the contenders `learned`, `best_classical` (or
                   None) and `bare` with their time until decorrelation [s], of each start and its 95 % interval

    Raises
    ------
    DataError    if couple.json is of another form
    """
    try:
        lines = {line["name"]: line for line in coupling["contenders"]}
        if coupling["learned"] is None:
            return "unverified"
        bare = next(line["name"] for line in coupling["contenders"] if line["role"] == "bare")
        chosen = {"learned": coupling["learned"], "best_classical": coupling["best_classical"], "bare": bare}
        contenders = {
            role: name and {key: lines[name][key] for key in _OF_A_CONTENDER} for role, name in chosen.items()
        }
        summary = {key: coupling[key] for key in _OF_THE_RUNS}
        return summary | {"starts_overlap": coupling["reference"]["starts_overlap"]} | contenders
    except (KeyError, TypeError, StopIteration) as error:
        raise DataError(
            f"{paths.coupling}: is not what couple writes now ({error!r}); run `hpcsurrogate couple` again"
        ) from None
