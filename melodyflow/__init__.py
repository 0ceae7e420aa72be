"""Text-guided music editing: the model, its solvers and the engine behind the Triton model."""

__version__ = "0.1.0"
