"""Any sound -> the WAV or FLAC bytes to send, and a digest of its samples.

WAV (PCM 16/24/32, float 32/64) and FLAC go out unchanged if the server reads them as they are.
Everything else is decoded block by block and written as WAV: by libsndfile what it reads exactly
(AIFF, CAF, W64, AU, 8-bit WAV, odd headers ...), by FFmpeg (PyAV, an extra) the rest: MP3, M4A,
OGG, WavPack, the sound of a video, damaged files. More than two channels are mixed to stereo.
Nothing is resampled: rate and length stay the source's.
"""

from .containers.pyav import cap_allocations
from .limits import MAX_BYTES, Budget, Limits
from .loading import AudioSource, Clip, load, waveform

__all__ = [
    "MAX_BYTES",
    "AudioSource",
    "Budget",
    "Clip",
    "Limits",
    "cap_allocations",
    "load",
    "waveform",
]
