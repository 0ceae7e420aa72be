"""Text-guided music editing: a clip and a prompt in, the same bars in another arrangement out.

from melodyflow_client import MelodyFlowClient

with MelodyFlowClient() as client:
    client.transform("riff.wav", variation="strings_quartet").save("strings.wav")
"""

from .aio import AsyncMelodyFlowClient
from .audio import AudioSource, Clip, load
from .client import MelodyFlowClient
from .comparison import ClipFacts, Comparison, compare
from .contract.version import __version__ as __version__
from .errors import (
    AudioError,
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    MelodyFlowError,
    PresetError,
    Refused,
    ServerError,
    Unavailable,
    UnknownVariation,
)
from .options import EditOptions, GenerateOptions, SweepOptions
from .presets import Preset, Presets, load_presets
from .responses import Preview, Progress, Result
from .retry import Retry
from .status import Status
from .sweep import SweepResult
from .takes import TakeResult

__all__ = [
    "AsyncMelodyFlowClient",
    "AudioError",
    "AudioSource",
    "Cancelled",
    "Clip",
    "ClipFacts",
    "Comparison",
    "DeadlineExceeded",
    "EditOptions",
    "GenerateOptions",
    "InvalidRequest",
    "MelodyFlowClient",
    "MelodyFlowError",
    "Preset",
    "PresetError",
    "Presets",
    "Preview",
    "Progress",
    "Refused",
    "Result",
    "Retry",
    "ServerError",
    "Status",
    "SweepOptions",
    "SweepResult",
    "TakeResult",
    "Unavailable",
    "UnknownVariation",
    "compare",
    "load",
    "load_presets",
]
