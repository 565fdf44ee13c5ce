"""What an artifact says about itself: the content of `hpcsurrogate.json` inside the TorchScript file.

Every host (Python, C++, Fortran, OpenFOAM) reads it before it calls the network. Lengths in metres, times in seconds.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.fields import FIELDS

SCHEMA_VERSION = 2
Sha256 = str

# Outputs of artifacts that close no filter, and the classical closure of each.
UNFILTERED = {"stress": "newtonian", "reynolds_stress": "eddy_viscosity", "body_force": "none"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FieldPort(_Part):
    """One input or output of the network."""

    field: str = Field(description="name in core.fields.FIELDS")
    unit: str
    components: tuple[str, ...] = Field(description="order along the component axis")
    layout: Literal["collocated", "staggered"] = Field(description="where the components lie in a cell")
    axes: Literal["bcxy", "bcxyz", "nc"] = Field(
        "bcxy", description="axes of the array, in order: b batch, n cell, c component, x, y, z"
    )

    @field_validator("field")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in FIELDS:
            raise ValueError(f"field '{name}' is none of {', '.join(FIELDS)}")
        return name


class FilterDescription(_Part):
    """The filter between the fine data and the coarse states."""

    kind: Literal["sharp", "gaussian", "box", "face_average"]
    width: float = Field(gt=0, description="[m]")


class HostDescription(_Part):
    """The solver and the discretisation the closure was trained for."""

    kind: Literal["finite_volume", "spectral"]
    order: int | None = Field(description="order of the fluxes; None for a spectral host")
    advection: Literal["central", "upwind"] | None = Field(
        None, description="how the fluxes interpolate; None likewise"
    )
    grid_spacing: tuple[float, float] | tuple[float, float, float] = Field(description="dx, dy[, dz] [m]")
    time_step: float = Field(gt=0, description="[s]")


class ValidityRange(_Part):
    """Inputs seen in training: (smallest, largest). None: not among the inputs."""

    velocity_magnitude: tuple[float, float] | None = Field(description="[m/s]")
    gradient_magnitude: tuple[float, float] = Field(
        description="Frobenius norm of the velocity gradient [1/s]; of a Reynolds stress, times k/epsilon [-]"
    )
    density: tuple[float, float] | None = None
    temperature: tuple[float, float] | None = None


class FallbackDescription(_Part):
    """The classical closure that a cell gets whose input the network must not be given."""

    kind: Literal["smagorinsky", "eddy_viscosity", "none"] = Field(description="none: a body force of zero")
    constant: float = Field(
        ge=0, description="C of nu_t = (C Delta)^2 |S|, or of an eddy viscosity nu_t = C k^2/epsilon [-]"
    )
    width: float | None = Field(gt=0, description="Delta [m]; None if it is among the inputs, or in no formula")

    def fact(self) -> str:
        """As a word and a number."""
        return f"{self.kind} {self.constant!r}"


Quadratic = Annotated[tuple[float, ...], Field(min_length=6, max_length=6)]


class NewtonianDescription(_Part):
    """The classical law of a fluid: what a cell gets whose state or rate the law of a material must not be asked for.

    Constants are those of 1, a, t, a^2, a t, t^2 with a = rho / density - 1, t = T / temperature - 1; density and
    temperature outside of the trained range count as its ends.
    """

    kind: Literal["newtonian"] = "newtonian"
    density: float
    temperature: float
    log_viscosity: Quadratic
    pressure: Quadratic

    def fact(self) -> str:
        """As a word and numbers, in the order of the keys."""
        numbers = (self.density, self.temperature, *self.log_viscosity, *self.pressure)
        return " ".join(("newtonian", *map(repr, numbers)))


class Certificate(_Part):
    """What was measured on the exported file."""

    residuals: dict[str, float] = Field(
        description="relative residual of each exact property, e.g. galilean_invariance"
    )
    a_priori: dict[str, Any] = Field(description="scores on the test split")
    a_posteriori: Literal["unverified"] | dict[str, Any] = Field("unverified", description="verdict of the coarse runs")


class ArtifactMetadata(_Part):
    """The whole of `hpcsurrogate.json`."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str
    kind: Literal["grid", "pointwise"] = Field(description="grid: whole periodic field; pointwise: cells in, cells out")
    inputs: tuple[FieldPort, ...] = Field(min_length=1)
    outputs: tuple[FieldPort, ...] = Field(min_length=1)
    dtype: Literal["float32", "float64"]
    filter: FilterDescription | None = Field(
        description="None for what closes no filter: the law of a material, a Reynolds stress, a body force"
    )
    host: HostDescription | None = Field(description="None likewise")
    validity: ValidityRange
    halo: int | None = Field(
        ge=0,
        description="cells away from a cell that its output depends on, 0 if pointwise; None if on the whole field, "
        "so that a host must not cut the field into subdomains",
    )
    linear_damping: bool = Field(
        False, description="the output is the velocity with every Fourier mode damped at a rate of its own"
    )
    fallback: FallbackDescription | NewtonianDescription
    training_data_digest: Sha256
    config_digest: Sha256
    provenance: dict[str, Any]
    certificate: Certificate

    @model_validator(mode="after")
    def _of_one_kind(self) -> "ArtifactMetadata":
        field = self.outputs[0].field
        filtered, classical = field not in UNFILTERED, UNFILTERED.get(field, "smagorinsky")
        if filtered != bool(self.filter) or filtered != bool(self.host) or self.fallback.kind != classical:
            without = "a filter and a host" if filtered else "no filter and no host"
            raise ValueError(f"an artifact for {field} has {without}, and the fallback {classical}")
        return self

    @property
    def is_law(self) -> bool:
        """Whether it is the law of a material: density, temperature and velocity gradient in, stress out."""
        return self.outputs[0].field == "stress"

    @property
    def num_output_components(self) -> int:
        """Columns of what the network returns: of several outputs, their components side by side."""
        return sum(len(port.components) or 1 for port in self.outputs)

    def facts(self) -> dict[str, str]:
        """Return what a host needs to know as a flat table of text, which C, C++ and Fortran read without JSON.

        Returns
        -------
        dict    `name`, `kind`, `dtype`, `halo` ("whole field" if None), `filter_kind`, `filter_width`, `host_kind`,
                `host_order` and `host_advection` (empty for a spectral host), `grid_spacing`, `time_step` (what is of
                filter or host is empty without them), `linear_damping` ("yes" or "no"), `fallback`, `num_inputs`,
                `num_outputs`, and for number i of each
                `input_i`: field, unit, layout, axes and components, separated by spaces, the components by commas.
                Numbers are written so that they read back as the same double
        """
        table = self._facts_of_host() | {
            "schema_version": str(self.schema_version),
            "name": self.name,
            "kind": self.kind,
            "dtype": self.dtype,
            "halo": "whole field" if self.halo is None else str(self.halo),
            "linear_damping": "yes" if self.linear_damping else "no",
            "fallback": self.fallback.fact(),
            "num_inputs": str(len(self.inputs)),
            "num_outputs": str(len(self.outputs)),
        }
        for side, ports in (("input", self.inputs), ("output", self.outputs)):
            for number, port in enumerate(ports):
                components = ",".join(port.components) or "-"
                table[f"{side}_{number}"] = f"{port.field} {port.unit} {port.layout} {port.axes} {components}"
        return table

    def _facts_of_host(self) -> dict[str, str]:
        names = ("filter_kind", "filter_width", "host_kind", "host_order", "host_advection", "grid_spacing")
        if self.filter is None or self.host is None:
            return dict.fromkeys((*names, "time_step"), "")
        host = self.host
        order = "" if host.order is None else str(host.order)
        spacing = " ".join(map(repr, host.grid_spacing))
        values = (self.filter.kind, repr(self.filter.width), host.kind, order, host.advection or "", spacing)
        return dict(zip(names, values, strict=True)) | {"time_step": repr(host.time_step)}

    def to_json(self) -> str:
        """Return the text to store; `from_json` gives the same object back (tests/unit/core/test_metadata.py)."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str, origin: str = "artifact") -> "ArtifactMetadata":
        """Read the stored text.

        Parameters
        ----------
        text : str      content of hpcsurrogate.json; TorchScript gives an empty string when the entry is missing
        origin : str    name of the file, for the message

        Raises
        ------
        ModelRefusedError    if the entry is missing, is no JSON, or is not of this schema
        """
        if not text:
            raise ModelRefusedError(f"{origin}: holds no hpcsurrogate.json; export it with `hpcsurrogate export`")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            key = ascii(".".join(str(part) for part in first["loc"]))[1:-1] or "hpcsurrogate.json"
            raise ModelRefusedError(f"{origin}: metadata: {key}: {first['msg']}; export the model again") from None
