"""Audio files and waveforms: bytes in, a waveform at the model's rate, and the way back.

A file is decoded (reading) and converted to the model's rate and channels (conversion). The codec's
output goes the same way back (conversion, regions, loudness, clipping, writing). Nothing here knows
about Triton or the model.
"""

from melodyflow.audio.clipping import prevent_clipping
from melodyflow.audio.conversion import from_model, to_model
from melodyflow.audio.lengths import loop_length, model_length, result_length
from melodyflow.audio.limits import Limits
from melodyflow.audio.reading import check_header, read
from melodyflow.audio.regions import region_samples, splice
from melodyflow.audio.waveform import Audio, Extent, Waveform, peak
from melodyflow.audio.writing import FORMATS, check_format, write

__all__ = [
    "FORMATS",
    "Audio",
    "Extent",
    "Limits",
    "Waveform",
    "check_format",
    "check_header",
    "from_model",
    "loop_length",
    "model_length",
    "peak",
    "prevent_clipping",
    "read",
    "region_samples",
    "result_length",
    "splice",
    "to_model",
    "write",
]
