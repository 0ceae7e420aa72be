"""The result's format where a client wants the one that its clip came in."""

from __future__ import annotations

import io

import soundfile

from melodyflow_client.audio import Clip

# WAV by how soundfile calls its samples; the result has no integers of 32 bits, nor doubles.
_WAV = {"PCM_16": "wav", "PCM_24": "wav24", "PCM_32": "wav32f", "FLOAT": "wav32f"}


def format_of(clip: Clip) -> str:
    """FLAC for FLAC; otherwise WAV with as many bits as the clip, or float 32 above 24."""
    with soundfile.SoundFile(io.BytesIO(clip.data)) as file:
        return "flac" if file.format == "FLAC" else _WAV.get(file.subtype, "wav32f")
