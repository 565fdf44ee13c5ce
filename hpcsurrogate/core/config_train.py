"""The section `train` of the experiment file: network, phases, and how the ranks work together."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hpcsurrogate.core.section import NonNegativeFloat, PositiveFloat, PositiveInt, Section


class QuadraticStencilModel(Section):
    """Products of learned stencils: second degree in the velocity, equivariant under the symmetries of the square."""

    kind: Literal["quadratic_stencil"]
    channels: PositiveInt = Field(2, description="learned pairs of input stencils, each in 8 orientations")
    output_channels: PositiveInt = Field(1, description="learned output stencils, each in 8 orientations")


class PrincipalComponents(Section):
    """The network sees the leading principal components of velocity patches instead of the velocity."""

    patch: Literal[3, 5] = Field(5, description="points of a patch along each axis")
    components: PositiveInt = Field(description="how many are kept; at most those with variance")


class CnnModel(Section):
    """A plain periodic convolutional network from velocity to acceleration, for comparison with the literature."""

    kind: Literal["cnn"]
    channels: PositiveInt = 32
    hidden_layers: PositiveInt = 3
    kernel_size: Literal[3, 5] = 5
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="probability with which a hidden channel is left out of a training step"
    )
    principal_components: PrincipalComponents | None = None
    scalars: tuple[Literal["filter_width", "reynolds_number"], ...] = Field(
        (), description="numbers that the network sees beside the fields, as logarithms"
    )


class TensorBasisModel(Section):
    """SGS stress of a cell from its velocity gradient alone: invariants in, coefficients of the tensor basis out."""

    kind: Literal["tensor_basis"]
    channels: PositiveInt = 16
    hidden_layers: PositiveInt = 2


class StressStencilModel(Section):
    """SGS stress of a cell from products of learned stencils of the velocity gradient; any host with square cells."""

    kind: Literal["stress_stencil"]
    channels: PositiveInt = Field(8, description="products, each of two learned stencils")


class ScaleEstimationModel(Section):
    """SGS stress through a sharp cut-off, of small scales that a network estimates; a spectral host in 2-D."""

    kind: Literal["scale_estimation"]
    channels: PositiveInt = 32
    hidden_layers: PositiveInt = 6
    kernel_size: Literal[3, 5] = 5


class DeconvolutionModel(Section):
    """Learned transfer functions around the quadratic term of the equations, by FFTs, and a learned damping."""

    kind: Literal["deconvolution"]
    knots: PositiveInt = Field(16, description="values of each function of the wavenumber, joined smoothly")


class ResidualModel(Section):
    """A base that is good already, and a network whose output is added to it: zero at first, then learned with it."""

    kind: Literal["residual"]
    base: DeconvolutionModel
    correction: Annotated[QuadraticStencilModel | CnnModel, Field(discriminator="kind")] = Field(
        description="a `cnn` sees the velocity alone here: without principal_components and scalars"
    )


class FourierOperatorModel(Section):
    """Fourier neural operator, for comparison with the literature."""

    kind: Literal["fourier_operator"]
    channels: PositiveInt = 16
    hidden_layers: PositiveInt = 4
    modes: PositiveInt = Field(12, description="Fourier modes along each axis that a layer acts on")


class DampingModel(Section):
    """Damping rate of every Fourier mode as a learned function of the wavenumber; costs a spectral host nothing."""

    kind: Literal["damping"]
    knots: PositiveInt = Field(16, description="values of the rate between k = 0 and the largest, joined smoothly")


Model = Annotated[
    QuadraticStencilModel
    | CnnModel
    | TensorBasisModel
    | StressStencilModel
    | ScaleEstimationModel
    | DeconvolutionModel
    | ResidualModel
    | FourierOperatorModel
    | DampingModel,
    Field(discriminator="kind"),
]


class Augmentation(Section):
    """Symmetries of the flow, applied at random to each sample and to its target alike."""

    rotations: bool = Field(False, description="by multiples of 90 degrees (180 where the cells or box are not square)")
    reflections: bool = False
    translations: bool = Field(False, description="by whole cells")
    galilean: NonNegativeFloat = Field(
        0.0, description="root mean square of a component of a uniform velocity added to the input [m/s]"
    )


class Apriori(Section):
    """First phase: regression on the host's commutator (or on the SGS stress or its divergence)."""

    target: Literal["commutator", "sgs_force", "sgs_stress"] = "commutator"
    epochs: Annotated[int, Field(ge=0)] = 20
    batch_size: PositiveInt = Field(16, description="samples per step, over all ranks")
    learning_rate: PositiveFloat = 3e-3
    augmentation: Augmentation = Augmentation()

    @property
    def force(self) -> Literal["commutator", "sgs_force"]:
        """The force that belongs to the target: what the closure returns to a host."""
        return "commutator" if self.target == "commutator" else "sgs_force"


class Unrolled(Section):
    """Second phase: coarse steps with the closure inside, against filtered DNS."""

    iterations: Annotated[int, Field(ge=0)] = 200
    batch_size: PositiveInt = Field(8, description="trajectory windows per step, over all ranks")
    learning_rate: PositiveFloat = 1e-3
    snapshots: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = Field(
        (1, 2, 4),
        description="curriculum: window length in snapshot intervals; each takes an equal share of the iterations",
    )

    back_propagation: PositiveInt | None = Field(
        None, description="snapshot intervals that gradients flow back through; all of the window if not given"
    )
    recompute: bool = Field(
        False, description="keep one state a coarse step and recompute the rest: slower, far leaner"
    )
    spectrum_weight: NonNegativeFloat = Field(
        0.0, description="of the squared error of the logarithm of the energy spectrum, beside that of the velocity"
    )


class LearningRateScaling(Section):
    """Learning rates of the file, carried over from the batch that they were chosen for to the batch of a phase."""

    rule: Literal["linear", "square_root"] = Field(description="the rate grows as the batch, or as its square root")
    batch_size: PositiveInt = Field(description="batch that the learning rates of the file were chosen for")


class Transfer(Section):
    """Start from what another training has learned. Parameters are named as in weights.safetensors, with * and ?."""

    path: str = Field(
        description="an artifact (model.pt), weights.safetensors or a checkpoint's folder, relative to the working"
        " directory; same kind and size of network, or of the base of a residual one"
    )
    frozen: tuple[str, ...] = Field((), description="names of parameters that keep their values")
    learning_rates: dict[str, PositiveFloat] = Field(
        {}, description="names of parameters -> factor on their learning rate; the first name that fits counts"
    )


class OnDivergence(Section):
    """What all ranks do when loss or gradient is not finite on any of them."""

    skips: Annotated[int, Field(ge=0)] = Field(3, description="such steps in a row that are left out")
    rollbacks: Annotated[int, Field(ge=0)] = Field(
        2, description="returns to the last checkpoint after that, before training gives up with exit code 4"
    )
    rate_factor: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="on the learning rate at every return")


class Train(Section):
    engine: Literal["horovod", "torch", "none"] = Field(
        "horovod", description="what sums over the ranks: Horovod, torch.distributed (gloo, NCCL), or one process alone"
    )
    model: Model
    initialise_from: Transfer | None = None
    apriori: Apriori = Apriori()
    unrolled: Unrolled = Unrolled()
    weight_decay: NonNegativeFloat = Field(0.0, description="decoupled from the gradient (AdamW)")
    gradient_clip: PositiveFloat = Field(1.0, description="largest norm of the gradient")
    warm_up: PositiveInt = Field(10, description="iterations of a phase until its learning rate is reached")
    learning_rate_scaling: LearningRateScaling | None = None
    weight_average: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="decay a step of an exponential moving average of the weights, which is validated and kept"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the network's arithmetic; weights, losses and the host stay float32"
    )
    accumulate: PositiveInt = Field(1, description="parts that a rank's share of a batch is done in, to save memory")
    exact: bool = Field(
        False, description="weights equal bit for bit on any number of ranks that divides virtual_shards"
    )
    virtual_shards: PositiveInt = Field(8, description="parts of every batch when `exact`; ranks must divide it")
    gradient_compression: Literal["none", "float16", "bfloat16"] = Field(
        "none", description="of gradients on their way between ranks; Horovod has no bfloat16"
    )
    patience: PositiveInt = Field(10, description="validations without improvement before a phase stops early")
    validate_every: PositiveInt = Field(50, description="iterations of the unrolled phase between validations")
    checkpoint_every: PositiveInt = Field(100, description="steps between checkpoints")
    keep_checkpoints: PositiveInt = 3
    on_divergence: OnDivergence = OnDivergence()
    roll_call_every: PositiveInt = Field(
        50, description="steps between comparisons of the ranks' weights and of the time that each needs for a step"
    )
    watchdog: PositiveFloat = Field(
        25.0, description="time without progress after which a rank counts as hung, and all end with exit code 6 [s]"
    )
    time_limit: PositiveFloat | None = Field(
        None,
        description="wall time after which training checkpoints and asks to be queued again [s]; under SLURM the job's"
        " own limit is known",
    )
    store: Literal["auto", "stream", "node", "cluster"] = Field(
        "auto",
        description="where samples are read from: files, one copy in the memory of each node, or a part on every rank;"
        " auto decides by size and free memory and says so",
    )
    tensorboard: bool = True
    device: Literal["cpu", "cuda"] = "cpu"

    # What may change between two parts of one run without changing what is trained, beyond round-off.
    OPERATIONAL: ClassVar[frozenset[str]] = frozenset(
        {
            "engine", "checkpoint_every", "keep_checkpoints", "roll_call_every", "watchdog", "time_limit", "store",
            "tensorboard", "device",
        }
    )  # fmt: skip
