"""What an artifact says about itself: the content of `hpcsurrogate.json` inside the TorchScript file.

Every host (Python, C++, Fortran, OpenFOAM) reads it before it calls the network. Lengths in metres, times in seconds.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hpcsurrogate.core.errors import ModelRefusedError
from hpcsurrogate.core.fields import FIELDS

SCHEMA_VERSION = 1
Sha256 = str


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FieldPort(_Part):
    """One input or output of the network."""

    field: str = Field(description="name in core.fields.FIELDS")
    unit: str
    components: tuple[str, ...] = Field(description="order along the component axis")
    layout: Literal["collocated", "staggered"] = Field(description="where the components lie in a cell")
    axes: str = Field("bcxy", description="axes of the array, in order: b batch, c component, x, y")

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
    grid_spacing: tuple[float, float] = Field(description="dx, dy [m]")
    time_step: float = Field(gt=0, description="[s]")


class ValidityRange(_Part):
    """Inputs seen in training: (smallest, largest)."""

    velocity_magnitude: tuple[float, float] = Field(description="[m/s]")
    gradient_magnitude: tuple[float, float] = Field(description="Frobenius norm of the velocity gradient [1/s]")


class Certificate(_Part):
    """What was measured on the exported file."""

    residuals: dict[str, float] = Field(
        description="relative residual of each exact property, e.g. galilean_invariance"
    )
    a_priori: dict[str, Any] = Field(description="scores on the test split")
    a_posteriori: Literal["unverified"] | dict[str, Any] = Field("unverified", description="verdict of the coarse runs")


class ArtifactMetadata(_Part):
    """The whole of `hpcsurrogate.json`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    kind: Literal["grid", "pointwise"] = Field(description="grid: whole periodic field; pointwise: cells in, cells out")
    inputs: tuple[FieldPort, ...] = Field(min_length=1)
    outputs: tuple[FieldPort, ...] = Field(min_length=1)
    dtype: Literal["float32", "float64"]
    filter: FilterDescription
    host: HostDescription
    validity: ValidityRange
    training_data_digest: Sha256
    config_digest: Sha256
    provenance: dict[str, Any]
    certificate: Certificate

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
            key = ".".join(str(part) for part in first["loc"]) or "hpcsurrogate.json"
            raise ModelRefusedError(f"{origin}: metadata: {key}: {first['msg']}; export the model again") from None
