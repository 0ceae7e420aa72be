"""The velocity network optimised for GPUs: one attention call per layer for sequences of any
length, fused elementwise work, and launches recorded as a CUDA graph for each size of call.

`FlowModel` defines the correct results.
"""

from melodyflow.model.fused.flow import FusedFlow, can_compile, can_fuse

__all__ = ["FusedFlow", "can_compile", "can_fuse"]
