"""Flow along a channel of a fluid with any law of its stress: finite volumes, implicit.

    rho du/dt = d(sigma_xy)/dy + d(sigma_xz)/dz + f         u = 0, or the speed of a wall, where the fluid ends

The flow is along x and the same everywhere along it. The cross-section is a line between two plates (y) or a rectangle
of four walls (y, z). Velocities stand at centres of equal cells, stresses at their faces, where the velocity gradient
has its normal part from the two cells beside it (at a wall from the wall and the next two, of second order) and its
tangential part, which a law that is not Newton's needs, from the cells around.

Legend: f force [stress / length] along x; N cells; u velocity along x; h spacing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpcsurrogate.core.errors import DivergedError

# Density (n,), temperature (n,), velocity gradient (n, 9) row by row, to stress (n, 6 or more): xx, xy, xz, yy, yz, zz;
# columns behind are not looked at. An artifact of a law is one.
StressLaw = Callable[[Tensor, Tensor, Tensor], Tensor]

XY, XZ = 1, 2  # components of the stress, and of the gradient: du/dy, du/dz
CONVERGED = 1e-11  # of the largest force in the balance of a cell
ROUND_OFF = 1e-8  # at most, where no step makes the residual smaller
MOST_STEPS = 100
MOST_HALVINGS = 30


@dataclass(frozen=True)
class Faces:
    """All faces across one axis.

    Attributes
    ----------
    gradient : Tensor, shape (2, faces, N)    du/dy and du/dz at each face from the velocities
    of_walls : Tensor, shape (2, faces)       what moving walls add to both
    divergence : Tensor, shape (N, faces)
    component : int                           of the stress that acts along x
    """

    gradient: Tensor
    of_walls: Tensor
    divergence: Tensor
    component: int


class Channel:
    """Steady and unsteady flow in a channel.

    Parameters
    ----------
    shape : (ny,) or (ny, nz)        cells, at least 3 along each axis
    lengths : as many                of the cross-section, wall to wall
    density, temperature : float     of the fluid, everywhere the same
    wall_speeds : (lower, upper)     of the walls at the ends of y, along x; those at the ends of z are at rest

    Notes
    -----
    All float64, in the units of the law. Newton's method with the slope of the law by autograd; the systems are dense,
    so that the work goes as N^3: hundreds of cells between plates, some 40 by 40 in a rectangle. Of second order;
    between plates a parabola is met exactly, and forces and stresses at the walls balance to round-off
    (tests/physics/test_channel.py).
    """

    def __init__(
        self,
        shape: Sequence[int],
        lengths: Sequence[float],
        density: float,
        temperature: float,
        wall_speeds: tuple[float, float] = (0.0, 0.0),
    ):
        if len(shape) not in (1, 2) or len(lengths) != len(shape) or min(shape) < 3:
            raise ValueError(f"{len(shape)} axes of {list(shape)} cells: give one or two axes, at least 3 cells each")
        self.shape, self.lengths = tuple(shape), tuple(lengths)
        self.density, self.temperature, self.wall_speeds = density, temperature, wall_speeds
        self.spacing = [length / cells for length, cells in zip(lengths, shape, strict=True)]
        self.points = [
            h * (torch.arange(n, dtype=torch.float64) + 0.5) for h, n in zip(self.spacing, shape, strict=True)
        ]
        self.faces = [self._faces(axis) for axis in range(len(shape))]

    def steady(self, law: StressLaw, force: float, guess: Tensor | None = None) -> Tensor:
        """Return the velocity of the steady flow, shape `shape`.

        Raises
        ------
        DivergedError    if the balance cannot be met, such as by a law whose stress falls as the rate rises
        """
        start = torch.zeros(self.shape, dtype=torch.float64) if guess is None else guess
        return self._newton(law, force, start, 0.0)

    def step(self, law: StressLaw, force: float, velocity: Tensor, time_step: float) -> Tensor:
        """Return the velocity a time step later, by the backward Euler method. Raises DivergedError as `steady`."""
        return self._newton(law, force, velocity, self.density / time_step)

    def wall_stresses(self, law: StressLaw, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """Return sigma_xy at the lower and at the upper wall, each (1,) or (nz,)."""
        stress = self._stress(law, self.faces[0], velocity.flatten())[0]
        stress = stress.reshape(self.shape[0] + 1, -1)
        return stress[0], stress[-1]

    def flow_rate(self, velocity: Tensor) -> float:
        """Return the integral of the velocity over the cross-section."""
        return float(velocity.sum()) * torch.tensor(self.spacing).double().prod().item()

    def _newton(self, law: StressLaw, force: float, before: Tensor, inertia: float) -> Tensor:
        """Solve divergence of the stress + force = inertia * (velocity - before)."""
        u, u_before = before.flatten().clone(), before.flatten()
        residual, slope, scale = self._balance(law, force, u, u_before, inertia)
        for _ in range(MOST_STEPS):
            size = residual.abs().max()
            if size <= CONVERGED * scale:
                return u.reshape(self.shape)
            change = torch.linalg.solve(slope, -residual)
            for halvings in range(MOST_HALVINGS):
                tried = u + change / 2**halvings
                found = self._balance(law, force, tried, u_before, inertia)
                if found[0].norm() < residual.norm():
                    break
            else:
                if size <= ROUND_OFF * scale:
                    return u.reshape(self.shape)
                break
            u, (residual, slope, scale) = tried, found
        raise DivergedError(
            f"channel: momentum is off balance by {float(residual.abs().max() / scale):.1e} of its largest part after "
            f"Newton's method; take a smaller force or time step, or look at the law at rates up to "
            f"{float(self._rates(u).max()):.3g}"
        )

    def _balance(
        self, law: StressLaw, force: float, u: Tensor, before: Tensor, inertia: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Residual (N,), its derivative (N, N), and the largest part of it, which round-off is to be held against."""
        residual = force - inertia * (u - before)
        derivative = -inertia * torch.eye(len(u), dtype=torch.float64)
        largest = residual.abs()
        for faces in self.faces:
            stress, slopes = self._stress(law, faces, u)
            residual = residual + faces.divergence @ stress
            largest = largest + faces.divergence.abs() @ stress.abs()
            derivative += faces.divergence @ torch.einsum("af,afn->fn", slopes, faces.gradient)
        return residual, derivative, largest.max().clamp_min(torch.finfo(torch.float64).tiny)

    def _stress(self, law: StressLaw, faces: Faces, u: Tensor) -> tuple[Tensor, Tensor]:
        """The component that acts along x, (faces,), and its derivatives by du/dy and du/dz, (2, faces)."""
        parts = faces.gradient @ u + faces.of_walls
        gradient = torch.zeros(parts.shape[1], 9, dtype=torch.float64)
        gradient[:, XY], gradient[:, XZ] = parts
        gradient.requires_grad_()
        density, temperature = (
            torch.full((len(gradient),), value, dtype=torch.float64) for value in (self.density, self.temperature)
        )
        with torch.enable_grad():
            stress = law(density, temperature, gradient)[:, faces.component]
            (slopes,) = torch.autograd.grad(stress.sum(), gradient)
        return stress.detach(), slopes[:, (XY, XZ)].T

    def _rates(self, u: Tensor) -> Tensor:
        return torch.cat([(faces.gradient @ u + faces.of_walls).square().sum(0).sqrt() for faces in self.faces])

    def _faces(self, axis: int) -> Faces:
        """Faces across y (axis 0) or z (axis 1), numbered like cells with one more along that axis."""
        cells, eyes = (*self.shape, 1)[:2], [torch.eye(n).double() for n in (*self.shape, 1)[:2]]
        speeds = (self.wall_speeds, (0.0, 0.0))  # of the walls across y, and across z

        def spread(own: Tensor, other: Tensor) -> Tensor:
            """A matrix or vector along this axis and one along the other, as one of all faces."""
            return torch.kron(own, other) if axis == 0 else torch.kron(other, own)

        normal, walls = _normal_derivative(cells[axis], self.spacing[axis], speeds[axis])
        other = 1 - axis
        gradient = torch.zeros(2, (cells[axis] + 1) * cells[other], len(eyes[0]) * len(eyes[1]), dtype=torch.float64)
        of_walls = torch.zeros(gradient.shape[:2], dtype=torch.float64)
        gradient[axis] = spread(normal, eyes[other])
        of_walls[axis] = spread(walls, torch.ones(cells[other]).double())
        if len(self.shape) == 2:
            between = _to_faces(cells[axis])
            tangential, walls = _central_derivative(cells[other], self.spacing[other], speeds[other])
            gradient[other] = spread(between, tangential)
            of_walls[other] = spread(between.sum(1), walls)
        divergence = spread(_differences(cells[axis]) / self.spacing[axis], eyes[other])
        return Faces(gradient, of_walls, divergence, (XY, XZ)[axis])


def _differences(cells: int) -> Tensor:
    """Of values at cells + 1 faces, upper less lower: (cells, cells + 1)."""
    return torch.diff(torch.eye(cells + 1, dtype=torch.float64), dim=0)


def _normal_derivative(cells: int, spacing: float, speeds: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """From cells to their faces: matrix (cells + 1, cells), and what the walls add (cells + 1,)."""
    matrix, walls = torch.zeros(cells + 1, cells, dtype=torch.float64), torch.zeros(cells + 1, dtype=torch.float64)
    matrix[1:-1] = torch.diff(torch.eye(cells, dtype=torch.float64), dim=0)
    # The parabola through the wall and the next two centres, at the wall.
    matrix[0, :2], walls[0] = torch.tensor([3.0, -1.0 / 3]), -8.0 / 3 * speeds[0]
    matrix[-1, -2:], walls[-1] = torch.tensor([1.0 / 3, -3.0]), 8.0 / 3 * speeds[1]
    return matrix / spacing, walls / spacing


def _central_derivative(cells: int, spacing: float, speeds: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """From cells to the same cells: matrix (cells, cells), and what the walls add (cells,)."""
    matrix, walls = torch.zeros(cells, cells, dtype=torch.float64), torch.zeros(cells, dtype=torch.float64)
    inner = torch.arange(1, cells - 1)
    matrix[inner, inner + 1], matrix[inner, inner - 1] = 0.5, -0.5
    matrix[0, :2], walls[0] = torch.tensor([1.0, 1.0 / 3]), -4.0 / 3 * speeds[0]
    matrix[-1, -2:], walls[-1] = torch.tensor([-1.0 / 3, -1.0]), 4.0 / 3 * speeds[1]
    return matrix / spacing, walls / spacing


def _to_faces(cells: int) -> Tensor:
    """Means of the two cells beside a face (cells + 1, cells); zero at walls, where nothing changes along the wall."""
    matrix = torch.zeros(cells + 1, cells, dtype=torch.float64)
    inner = torch.arange(1, cells)
    matrix[inner, inner - 1] = matrix[inner, inner] = 0.5
    return matrix
