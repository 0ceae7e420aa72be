"""The velocity network as a GPU likes it: one attention call a layer for sequences of any lengths,
fused elementwise work, and the launches of each size of call recorded once as a CUDA graph.

The numbers are `FlowModel`'s, which is the definition.
"""

from melodyflow.model.fused.flow import FusedFlow, can_compile, can_fuse

__all__ = ["FusedFlow", "can_compile", "can_fuse"]
