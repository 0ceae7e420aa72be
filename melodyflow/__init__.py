"""Text-guided music editing: the model, its solvers and the engine behind the Triton model."""

from .contract.version import __version__ as __version__
