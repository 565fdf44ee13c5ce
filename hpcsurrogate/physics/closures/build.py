"""From the closure section of an experiment to the callable."""

from collections.abc import Callable

from torch import Tensor

from hpcsurrogate.core.config import Closure
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.closures.damping import Hyperviscosity, NoClosure
from hpcsurrogate.physics.closures.dynamic import DynamicSmagorinsky
from hpcsurrogate.physics.closures.eddy_viscosity import Leith, Smagorinsky
from hpcsurrogate.physics.closures.gradient import Gradient
from hpcsurrogate.physics.closures.stress_closure import mean_spacing
from hpcsurrogate.physics.hosts import AnyHost


def make_classical(
    closure_config: Closure, host: AnyHost, constant: float | None = None, delta: float | None = None
) -> Callable[[Tensor], Tensor]:
    """Build the classical closure that a section of the experiment describes, for the grid and layout of a host.

    Parameters
    ----------
    closure_config : Closure    any kind but `learned`
    host : AnyHost              gives the grid and the operators
    constant : float, optional  for a constant that the section leaves as `tuned` [-]; hyperviscosity: [1/s]
    delta : float, optional     filter width Delta [m]; the geometric mean of the host's spacings if not given

    Returns
    -------
    Callable    closure(velocity_bcxy) -> acceleration_bcxy, (batch, 2, nx, ny), [m/s] -> [m/s^2]

    Raises
    ------
    ConfigError    if a tuned constant has no value, a value is given where none is wanted, or the kind is `learned`
    """
    kind = closure_config.kind
    width = mean_spacing(host.grid) if delta is None else delta
    if kind in ("smagorinsky", "leith"):
        value = _constant(kind, "constant", closure_config.constant, constant)
        closure_class = Smagorinsky if kind == "smagorinsky" else Leith
        return closure_class(host.operators, width, value)
    if kind == "hyperviscosity":
        return Hyperviscosity(host.grid, _constant(kind, "rate", closure_config.rate, constant), closure_config.power)
    if constant is not None:
        raise ConfigError(f"closure {kind}: it has no constant, but {constant:g} was given; leave it out")
    if kind == "none":
        return NoClosure()
    if kind == "dynamic_smagorinsky":
        return DynamicSmagorinsky(host.operators, width)
    if kind == "gradient":
        return Gradient(host.operators, width, closure_config.order)
    raise ConfigError(f"closure {kind}: not a classical closure; load its artifact instead")


def _constant(kind: str, key: str, written: float | str, given: float | None) -> float:
    """Return the number that stands in the experiment, or the given one where the experiment says `tuned`."""
    if written != "tuned":
        if given is not None and given != written:
            raise ConfigError(f"closure {kind}: {key} is {written:g} in the experiment, but {given:g} was given")
        return float(written)
    if given is None:
        raise ConfigError(f"closure {kind}: {key} is `tuned`, but no tuned value is at hand; write a number for {key}")
    if given < 0:
        raise ConfigError(f"closure {kind}: {key} is {given:g}; it must not be negative")
    return float(given)
