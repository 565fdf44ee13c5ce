"""What an artifact is and what was measured on it, for people: the card beside the file, and the text of `inspect`."""

import hashlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.fields import FIELDS
from hpcsurrogate.core.metadata import ArtifactMetadata, FieldPort
from hpcsurrogate.embed.archive import check_archive, read_entries
from hpcsurrogate.embed.artifact import metadata_of, read_checked
from hpcsurrogate.embed.card_use import usage

WIDTH = 100  # columns of a terminal
COMPILED = ".pt2"
NATIVE = "It holds native code, which nobody can check before it runs: ask for it with the option `allow_compiled`."
# A residual that is no more than round-off makes of an exact property, in the type of the network.
ROUND_OFF = {"float32": 1e-4, "float64": 1e-10}
NEARLY = 0.05

PROPERTIES = {
    "galilean_invariance": "a constant velocity added to the flow changes nothing",
    "uniform_flow": "no stress in a uniform flow",
    "momentum": "momentum is only moved about",
    "reflection_x": "mirrored flow along x, mirrored answer",
    "reflection_y": "mirrored flow along y, mirrored answer",
    "reflection_z": "mirrored flow along z, mirrored answer",
    "transposition": "x and y exchanged, so is the answer",
    "transposition_xy": "x and y exchanged, so is the answer",
    "transposition_xz": "x and z exchanged, so is the answer",
    "transposition_yz": "y and z exchanged, so is the answer",
    "rotation_90": "flow turned by 90 degrees, answer turned",
    "rotation_90_x": "flow turned by 90 degrees about x, answer turned",
    "rotation_90_y": "flow turned by 90 degrees about y, answer turned",
    "rotation_90_z": "flow turned by 90 degrees about z, answer turned",
    "rotation": "frame turned by any angle, answer turned",
    "reflection": "frame mirrored, answer mirrored",
    "trace": "the stress is deviatoric",
    "change_of_units": "other units of length and time, the same answer",
    "spin": "a rotation of the fluid as a whole changes nothing",
    "dissipation": "the stress never gives work back",
    "newtonian_at_rest": "Newton's fluid, at a ten-thousandth of these rates",
}
SCORES = {
    "relative_error_force": "error of the commutator",
    "correlation_force": "correlation of the commutator",
    "relative_error_sgs_force": "error of the SGS force",
    "relative_error_stress": "error of the stress",
    "correlation_stress": "correlation of the stress",
    "backscatter_fraction": "share of backscatter",
    "relative_error_viscosity": "error of the viscosity",
}
EXACT_FIELD = "Errors are relative to the exact field; 1 is what no closure has."


@dataclass(frozen=True)
class Section:
    """A part of the card: sentences, a table whose first row is its head, or lines of code by language."""

    title: str
    sentences: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    code: dict[str, str] = field(default_factory=dict)


def card(metadata: ArtifactMetadata, sha256: str, name: str) -> str:
    """Return the card of an artifact in Markdown.

    Parameters
    ----------
    metadata : ArtifactMetadata
    sha256 : str    of the whole file
    name : str      of the file, such as `model.pt`

    Notes
    -----
    Holds every number of the certificate (tests/unit/embed/test_card.py).
    """
    parts = [f"# {metadata.name}: {name}"]
    for section in sections(metadata, sha256, name):
        parts += [f"## {section.title}", *section.sentences]
        if section.table:
            head, *rows = section.table
            lines = [head, ("---",) * len(head), *rows]
            parts.append(
                "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
            )
        parts += [f"```{language}\n{lines}\n```" for language, lines in section.code.items()]
    return "\n\n".join(parts) + "\n"


def inspect_artifact(path: str | Path) -> str:
    """Return the same for a terminal, after the checks that need no network: checksum, entries, code and metadata.

    Raises
    ------
    DataError            if the file is missing
    ModelRefusedError    if one of these checks fails (tests/unit/embed/test_card.py)
    """
    path = Path(path)
    content = read_checked(path)
    # Of compiled code nothing but the metadata is read: it cannot be checked, and is not run.
    entries = read_entries(content, path, known=None) if path.suffix == COMPILED else check_archive(content, path)
    metadata = metadata_of(entries, path)
    lines = [f"{metadata.name}: {path.name}"]
    try:
        found = sections(metadata, hashlib.sha256(content).hexdigest(), path.name)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # the certificate may hold anything
        raise ModelRefusedError(
            f"{path}: its certificate or provenance is not what an export writes ({error!r}); export the model again"
        ) from None
    for section in found:
        lines += ["", section.title.upper()]
        for sentence in section.sentences:
            lines += textwrap.wrap(sentence.replace("`", ""), WIDTH, initial_indent="  ", subsequent_indent="  ")
        lines += _columns(section.table)
        for language, code in section.code.items():
            lines += [f"  {language}", *(f"    {line}" for line in code.splitlines())]
    return "\n".join(lines) + "\n"


def sections(metadata: ArtifactMetadata, sha256: str, name: str) -> list[Section]:
    """Return all parts of the card in their order."""
    return [
        _what(metadata),
        _host(metadata),
        _range(metadata),
        _exact(metadata),
        _a_priori(metadata),
        _a_posteriori(metadata.certificate.a_posteriori),
        _provenance(metadata, sha256),
        Section("Use", (NATIVE,) if name.endswith(COMPILED) else (), code=usage(metadata, name)),
    ]


def _what(metadata: ArtifactMetadata) -> Section:
    kind = {"grid": "a whole periodic field in and out", "pointwise": "cells in and out, each by itself"}[metadata.kind]
    rows = [("", "field", "unit", "components", "points", "axes")]
    rows += [_port_row("input", port) for port in metadata.inputs]
    rows += [_port_row("output", port) for port in metadata.outputs]
    what = "law of a material" if metadata.is_law else "closure"
    sentence = f"A learned {what} of kind `{metadata.kind}`: {kind}, in {metadata.dtype}."
    meaning = " ".join(f"{port.field}: {FIELDS[port.field].description}." for port in metadata.outputs)
    return Section("What it is", (sentence, meaning), tuple(rows))


def _port_row(side: str, port: FieldPort) -> tuple[str, ...]:
    return (side, port.field, port.unit, ", ".join(port.components) or "-", port.layout, port.axes)


def _host(metadata: ArtifactMetadata) -> Section:
    host = metadata.host
    if host is None:
        return Section("Made for", ("Any code that has the state of its cells: no filter and no grid belong to it.",))
    order = "" if host.order is None else f" of order {host.order}"
    if host.advection is not None:
        order += f" with {host.advection} fluxes"
    damping = (
        "It damps every Fourier mode at a rate of its own: in the linear term of a spectral host it costs nothing.",
    )
    cut = (
        "Its answer depends on the whole field: do not cut the field into subdomains."
        if metadata.halo is None
        else f"Its answer for a cell depends on the cells within {metadata.halo} of it, the `halo` of a subdomain."
    )
    return Section(
        "Made for",
        (
            f"A {host.kind.replace('_', '-')} solver{order} on cells of {_by(host.grid_spacing)} m with steps of "
            f"{host.time_step:g} s, and states filtered by `{metadata.filter.kind}` of width "
            f"{metadata.filter.width:.6g} m.",
            cut,
            *(damping if metadata.linear_damping else ()),
        ),
    )


def _range(metadata: ArtifactMetadata) -> Section:
    rows = [("trained on", "smallest", "largest", "unit")]
    if metadata.validity.velocity_magnitude is not None:
        rows.append(("velocity magnitude", *_numbers(metadata.validity.velocity_magnitude), "m/s"))
    units = {port.field: port.unit for port in metadata.inputs}
    gradient_unit = units.get("velocity_gradient", "1/s")
    what = "gradient magnitude"
    if metadata.outputs[0].field == "reynolds_stress":
        what, gradient_unit = "gradient magnitude times k/epsilon", "-"
    rows.append((what, *_numbers(metadata.validity.gradient_magnitude), gradient_unit))
    for name in ("density", "temperature"):
        if (known := getattr(metadata.validity, name)) is not None:
            rows.append((name, *_numbers(known), units[name]))
    fallback = metadata.fallback
    if metadata.is_law:
        sentence = (
            "A cell outside of these ranges, or that a value which is not finite reaches, gets Newton's law instead, "
            "its viscosity and pressure quadratic in the state, with an error as large as its stress, and is counted."
        )
        return Section("Range", (sentence,), tuple(rows))
    width = "the cell's filter width" if fallback.width is None else f"{fallback.width:.6g} m"
    classical = {
        "smagorinsky": f"the closure of Smagorinsky instead (C = {fallback.constant:g}, Delta = {width})",
        "eddy_viscosity": f"the eddy viscosity {fallback.constant:g} k^2/epsilon instead",
        "none": "no force",
    }[fallback.kind]
    sentence = (
        f"A cell that is above the largest, or that a value which is not finite reaches, gets {classical} and is "
        "counted."
    )
    return Section("Range", (sentence,), tuple(rows))


def _exact(metadata: ArtifactMetadata) -> Section:
    rows = [("property", "measured", "")]
    for name, residual in metadata.certificate.residuals.items():
        rows.append((PROPERTIES.get(name, name), f"{residual:.1e}", _in_words(residual, metadata.dtype)))
    sentences = [
        "Root mean square of the violation over that of the output, measured on the network in this file; 0 is exact."
    ]
    if metadata.is_law:
        sentences = [sentences[0].replace("the output", "the stress less its trace")]
    elif metadata.outputs[0].field in ("sgs_stress", "reynolds_stress"):
        sentences.append("The stress is symmetric by its form: one number stands for tau_ij and tau_ji.")
    return Section("Exact properties", tuple(sentences), tuple(rows))


def _in_words(residual: float, dtype: str) -> str:
    if residual <= ROUND_OFF[dtype]:
        return "kept, to round-off"
    return "nearly kept" if residual <= NEARLY else "not kept"


def _a_priori(metadata: ArtifactMetadata) -> Section:
    title = "On runs of molecular dynamics" if metadata.is_law else "On filtered fine data (a priori)"
    scores = metadata.certificate.a_priori
    learned, classical = scores.get("learned"), scores.get("best_classical")
    if not learned:
        return Section(title, ("Not measured.",))
    names = ("learned", "best classical: " + classical["name"] if classical else "no classical closure")
    rows = [(f"target: {scores.get('target', '-')}", *names)]
    for key, what in SCORES.items():
        values = [None if line is None else line.get(key) for line in (learned, classical)]
        if values[0] is not None:
            rows.append((what, *("-" if value is None else f"{value:.3g}" for value in values)))
    unit = "Root mean squares of the relative error." if metadata.is_law else EXACT_FIELD
    return Section(title, (unit,), tuple(rows))


def _a_posteriori(verdict: str | dict[str, Any]) -> Section:
    title = "In the coarse solver (a posteriori)"
    if isinstance(verdict, str):
        return Section(title, ("Unverified: when this file was written it had not yet run in a solver.",))
    rows = [("", "time until decorrelation [s]", "95 % interval [s]", "cost over the bare host's")]
    for role in ("learned", "best_classical", "bare"):
        line = verdict.get(role)
        if line:
            low, high = line["decorrelation_interval"]
            spread = f"{low:.3g} to {high:.3g}"
            cost = f"{line['cost_ratio_time']:.3g}"
            rows.append((line["name"], f"{line['decorrelation_time']:.3g}", spread, cost))
    sentences = [str(verdict["verdict"])]
    fraction = (verdict.get("learned") or {}).get("fallback_fraction")
    if fraction is not None:
        sentences.append(
            f"The network ran alone; the guard would have given {100 * fraction:.2g} % of the cells in these runs to "
            "the classical closure."
        )
    return Section(title, tuple(sentences), tuple(rows))


def _provenance(metadata: ArtifactMetadata, sha256: str) -> Section:
    made = metadata.provenance
    libraries = ", ".join(f"{name} {version}" for name, version in (made.get("libraries") or {}).items() if version)
    rows = [
        ("SHA-256 of the file", sha256),
        ("training data", metadata.training_data_digest),
        ("configuration", metadata.config_digest),
        ("hpcsurrogate", f"{made.get('version', '-')}, commit {made.get('git_commit') or '-'}"),
        ("libraries", libraries or "-"),
        ("written", str(made.get("time", "-"))),
    ]
    return Section("Where it comes from", (), (("", ""), *rows))


def _by(values: Sequence[float]) -> str:
    return " by ".join(f"{value:.6g}" for value in values)


def _numbers(values: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{value:.4g}" for value in values)


def _columns(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of a table, each column as wide as its widest cell."""
    rows = [row for row in table if any(row)]
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
