"""A field shared by ranks in slabs: its transforms are those of the whole field, and the solver does the same steps."""

START = """
import math
import torch
torch.set_num_threads(1)
from hpcsurrogate.core.config import Flow
from hpcsurrogate.core.errors import ConfigError
from hpcsurrogate.parallel.world import World, get_world
from hpcsurrogate.physics.grid import Grid
from hpcsurrogate.physics.slab_transform import SlabTransform
from hpcsurrogate.physics.spectral_3d import SpectralSolver3D

everyone = get_world()

def worlds():
    "Within one launch, the first 1, 2, 3 and 4 ranks in turn are a world of their own."
    for size in range(1, everyone.size + 1):
        part = everyone.comm.Split(everyone.rank < size, everyone.rank)
        if everyone.rank < size:
            yield World(part.rank, part.size, comm=part)
        everyone.barrier()

def whole(world, slab):
    "The slabs (..., X, ny, nz) of all ranks, as one field"
    return torch.cat(world.allgather(slab), dim=-3)
"""

# Four ranks hold one or two planes of 6, and one or two rows of 7.
TRANSFORMS = """
for shape in ((10, 14, 12), (6, 10, 4)):
    grid = Grid(shape, (1.0, 2.0, 3.0))
    field = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for dealias, bound in (("two_thirds", 3), ("shift", 2)):
        # What a transform of the whole field has beyond the bounds along ky and kz is lost, along kx it is not.
        field_hat = torch.fft.rfftn(field, dim=(-3, -2, -1))
        my = torch.fft.fftfreq(shape[1], 1 / shape[1], dtype=torch.float64).abs()
        mz = torch.arange(shape[2] // 2 + 1)
        field_hat = field_hat * ((bound * my < shape[1])[:, None] & (bound * mz < shape[2]))
        smooth = torch.fft.irfftn(field_hat, s=shape, dim=(-3, -2, -1))
        for world in worlds():
            transform = SlabTransform(grid, world, dealias)
            slab = field[:, transform.x.start : transform.x.stop]
            (single,), (coefficients,) = transform.to_spectral([slab[0]]), transform.to_spectral([slab])
            assert torch.equal(single, coefficients[0])
            rows = (transform.k[1].flatten() * grid.lengths[1] / (2 * math.pi)).round().long() % shape[1]
            expected = field_hat[:, :, rows, : coefficients.shape[-1]]
            # Round-off of a few hundred numbers of order one
            assert (coefficients - expected).abs().sum() < 1e-11, (shape, dealias, world.size)
            (back,) = transform.to_physical([coefficients])
            assert torch.allclose(back, smooth[:, transform.x.start : transform.x.stop], rtol=0, atol=1e-14)
            numbers = world.allgather(rows.tolist())
            assert sorted(sum(numbers, [])) == [i for i in range(shape[1]) if bound * my[i] < shape[1]]
print("transformed", flush=True)
"""

STEPS = """
grid = Grid((12, 20, 16), (2 * math.pi, 3 * math.pi, 5.0))
coarse = Grid((8, 10, 8), grid.lengths)
FORCINGS = (
    ("two_thirds", {"kind": "ring", "wavenumber": 2, "amplitude": 1.0}),
    ("shift", {"kind": "kolmogorov", "wavenumber": 2, "amplitude": 1.0}),
    ("shift", {"kind": "constant_power", "wavenumber": 1, "power": 1.0}),
)
def closure(velocity):  # of each point's own velocity: needs no neighbours from other slabs
    return -0.1 * velocity.square().sum(-4, keepdim=True) * velocity

for dealias, forcing in FORCINGS:
    flow = Flow(domain=grid.lengths, viscosity=0.02, drag=0.1, forcing=forcing)
    small = SpectralSolver3D(coarse, flow, dealias)

    def run(solver):
        state = small.refine(small.random_state(1, 0.5, torch.Generator().manual_seed(2)), solver)
        state = state + solver.random_state(2, 1.0, torch.Generator().manual_seed(3))
        state = solver.encode(solver.velocity(state))
        for _ in range(2):
            state = solver.step(state, 0.05, closure)
        return solver.velocity(state), solver.vorticity(state), solver.max_velocity(state), solver.rms_velocity(state)

    with torch.no_grad():
        velocity, vorticity, largest, rms = run(SpectralSolver3D(grid, flow, dealias))
        assert rms > 0.5
        for world in worlds():
            solver = SpectralSolver3D(grid, flow, dealias, transform=SlabTransform(grid, world, dealias))
            shared = run(solver)
            # Two steps of numbers of order one in float64; sums in another order
            assert (whole(world, shared[0]) - velocity).abs().max() < 1e-13, (dealias, forcing, world.size)
            assert (whole(world, shared[1]) - vorticity).abs().max() < 1e-12
            assert abs(shared[2] - largest) < 1e-13 and abs(shared[3] - rms) < 1e-13
            if dealias == "two_thirds":
                assert torch.equal(run(solver)[0], shared[0])
            assert len(set(world.allgather((shared[2], shared[3].item())))) == 1
print("stepped", flush=True)
"""

# The sizes divide evenly, so that the formula of slab_transform.py is exact but for the odd number of rows.
TRAFFIC = """
class Counting:
    def __init__(self, comm):
        self.comm, self.calls, self.numbers = comm, 0, 0
    def __getattr__(self, name):
        return getattr(self.comm, name)
    def Alltoallv(self, sent, received):
        self.calls += 1
        self.numbers += sum(sent[1][0])
        self.comm.Alltoallv(sent, received)

n, ranks = 32, everyone.size
comm = Counting(everyone.comm)
grid = Grid((n,) * 3, (1.0,) * 3)
flow = Flow(domain=grid.lengths, viscosity=0.1)
world = World(everyone.rank, ranks, comm=comm)
solver = SpectralSolver3D(grid, flow, transform=SlabTransform(grid, world))
state = solver.random_state(2, 1.0, torch.Generator().manual_seed(0))
comm.calls = comm.numbers = 0
solver.rhs(state)
numbers = sum(everyone.allgather(comm.numbers))
expected = 8 * (1 - 1 / ranks) * n * 21 * 11
assert comm.calls == 8 and abs(numbers / expected - 1) < 1e-12, (comm.calls, numbers, expected)
print("counted", flush=True)

try:
    SlabTransform(Grid((8, 4, 8), (1.0,) * 3), everyone)
except ConfigError as error:
    print(f"{error}\\n", end="", flush=True)
"""


def test_transforms_and_steps_are_those_of_the_whole_field(run_mpi):
    output = run_mpi(START + TRANSFORMS + STEPS + TRAFFIC, ranks=4, timeout=120)
    assert output.count("4 ranks cannot share 8 x 4 x 8 points; at most 3 of them have a slab") == 4
    assert [output.splitlines().count(word) for word in ("transformed", "stepped", "counted")] == [4, 4, 4]
