"""The one place that quiets TorchScript's deprecation warning, for the two rooms that use TorchScript."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Hold back torch's notice that TorchScript is deprecated.

    The artifact is TorchScript on purpose: it is the one format of torch that a C++ or Fortran host loads without a
    compiler and without code for one processor family. The notice would meet every user at every start and asks
    nothing of him. Only warnings that name `torch.jit` are held back.
    """
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", message=r".*torch\.jit", category=category)
        yield
