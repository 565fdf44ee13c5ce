"""From the closure section of an experiment to the callable."""

from collections.abc import Callable

from torch import Tensor

from hpcsurrogate.core.config import Closure
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.physics.closures.damping import Hyperviscosity, NoClosure
from hpcsurrogate.physics.closures.dynamic import DynamicSmagorinsky
from hpcsurrogate.physics.closures.dynamic_momentum import DynamicSmagorinsky3D
from hpcsurrogate.physics.closures.eddy_viscosity import Leith, Smagorinsky
from hpcsurrogate.physics.closures.gradient import Gradient, Mixed
from hpcsurrogate.physics.closures.stress_closure import mean_spacing
from hpcsurrogate.physics.closures.wale_vreman import Vreman, Wale
from hpcsurrogate.physics.hosts import AnyHost

WITH_A_CONSTANT = {"smagorinsky": Smagorinsky, "leith": Leith, "wale": Wale, "vreman": Vreman, "mixed": Mixed}


def make_classical(
    closure_config: Closure, host: AnyHost, constant: float | None = None, delta: float | None = None
) -> Callable[[Tensor], Tensor]:
    """Build the classical closure that a section of the experiment describes, for the grid and layout of a host.

    Parameters
    ----------
    closure_config : Closure    any kind but `learned`
    host : AnyHost              gives the grid and the operators
    constant : float, optional  for a constant that the section leaves as `tuned` [-]; hyperviscosity: its rate [1/s]
    delta : float, optional     filter width Delta [m]; the geometric mean of the host's spacings if not given

    Returns
    -------
    Callable    closure(velocity) -> acceleration, (batch, d, nx, ny[, nz]), [m/s] -> [m/s^2]

    Raises
    ------
    ConfigError    if a tuned constant has no value, a value is given where none is wanted, the kind is `learned`, or
                   it is not for flows of so many dimensions
    """
    kind = closure_config.kind
    width = mean_spacing(host.grid) if delta is None else delta
    if kind in WITH_A_CONSTANT:
        value = _constant(kind, "constant", closure_config.constant, constant)
        return WITH_A_CONSTANT[kind](host.operators, width, value)
    if kind == "hyperviscosity":
        power = _constant(kind, "power", closure_config.power, None)
        return Hyperviscosity(host.grid, _constant(kind, "rate", closure_config.rate, constant), int(power))
    if constant is not None:
        raise ConfigError(f"closure {kind}: it has no constant, but {constant:g} was given; leave it out")
    if kind == "none":
        return NoClosure()
    if kind == "dynamic_smagorinsky":
        return (DynamicSmagorinsky if host.grid.num_dims == 2 else DynamicSmagorinsky3D)(host.operators, width)
    if kind == "gradient":
        return Gradient(host.operators, width, closure_config.order, closure_config.regularised)
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
