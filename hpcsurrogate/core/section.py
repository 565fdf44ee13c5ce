"""What every section of the experiment file is made of: the base class and the types of numbers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(gt=0)]
EvenInt = Annotated[int, Field(ge=4, multiple_of=2)]
Shape = Annotated[tuple[EvenInt, ...], Field(min_length=2, max_length=3)]
Lengths = Annotated[tuple[PositiveFloat, ...], Field(min_length=2, max_length=3)]
Compression = Literal["none", "gzip", "zstd", "blosc"]


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys, no silent conversion of types (an int may serve as a float)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
