"""How wide a filter of the experiment file is, in metres; without torch, so that a wrong one is found at once."""

from collections.abc import Sequence

from hpcsurrogate.core.config import Filter
from hpcsurrogate.core.errors import ConfigError


def filter_widths(config: Filter, spacing: Sequence[float], key: str = "prepare.filter") -> tuple[float, ...]:
    """Filter width along each axis [m].

    Parameters
    ----------
    config : core.config.Filter
    spacing : sequence of float    of the coarse grid [m]
    key : str                      where in the experiment file the filter stands, for the message

    Raises
    ------
    ConfigError    if a face average is asked to be wider or narrower than the face
    """
    if config.width is not None:
        widths = (config.width,) * len(spacing)
    else:
        factor = 1.0 if config.width_over_spacing is None else config.width_over_spacing
        widths = tuple(factor * h for h in spacing)
    if config.kind == "face_average" and any(abs(w / h - 1) > 1e-9 for w, h in zip(widths, spacing, strict=True)):
        raise ConfigError(f"{key}: a face_average is as wide as the coarse cell; leave width out")
    return widths
