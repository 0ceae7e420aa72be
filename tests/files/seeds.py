"""One small file of each container and coding that is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .sounds import ape, encoded, id3v1, id3v2, sound, with_av
from .whole import piped_flac

_SMALL = 3000  # samples


def files(frames: int = _SMALL) -> dict[str, bytes]:
    """Name -> bytes of so many samples. Takes some seconds."""
    stereo, mono, surround = (sound(channels, frames) for channels in (2, 1, 6))
    made: dict[str, Callable[[], bytes]] = {
        f"{container} {subtype}": partial(encoded, container, subtype, stereo)
        for container, subtypes in {
            "WAV": ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "MS_ADPCM", "IMA_ADPCM"),
            "WAVEX": ("PCM_24",),
            "RF64": ("PCM_16",),
            "W64": ("PCM_16", "MS_ADPCM"),
            "AIFF": ("PCM_16", "FLOAT", "ULAW"),
            "CAF": ("PCM_16", "ALAC_16", "ALAC_24"),
            "AU": ("PCM_16", "FLOAT"),
            "FLAC": ("PCM_16", "PCM_24"),
            "OGG": ("VORBIS",),
            "VOC": ("PCM_16",),
            "NIST": ("PCM_16",),
            "PAF": ("PCM_16",),
            "IRCAM": ("PCM_16",),
            "PVF": ("PCM_16",),
            "AVR": ("PCM_16",),
        }.items()
        for subtype in subtypes
    }
    made["SVX"] = partial(encoded, "SVX", "PCM_16", mono)
    made["WAV GSM"] = partial(encoded, "WAV", "GSM610", mono)
    for container, codec, rate in (
        ("mp3", "libmp3lame", 44100),
        ("mp2", "mp2", 44100),
        ("adts", "aac", 44100),
        ("ipod", "aac", 44100),
        ("ipod", "alac", 44100),
        ("mov", "pcm_s16be", 44100),
        ("mp4", "flac", 44100),
        ("matroska", "aac", 44100),
        ("webm", "libopus", 48000),
        ("ogg", "libopus", 48000),
        ("ogg", "flac", 44100),
        ("wv", "wavpack", 44100),
        ("tta", "tta", 44100),
        ("caf", "alac", 44100),
        ("avi", "pcm_s16le", 44100),
        ("flv", "aac", 44100),
        ("mpegts", "aac", 44100),
        ("mpeg", "mp2", 44100),
        ("ac3", "ac3", 48000),
        ("eac3", "eac3", 48000),
        ("nut", "pcm_s16le", 48000),
        ("latm", "aac", 44100),
        ("wav", "libmp3lame", 44100),
        ("wav", "adpcm_yamaha", 44100),
    ):
        made[f"{container} {codec}"] = partial(with_av, container, codec, [stereo], rate=rate)
    made["ipod aac 5.1"] = partial(with_av, "ipod", "aac", [surround])
    made["ac3 5.1"] = partial(with_av, "ac3", "ac3", [surround], rate=48000)
    made["mkv two tracks"] = partial(with_av, "matroska", "flac", [stereo, mono])
    made["FLAC 5.1"] = partial(encoded, "FLAC", None, surround)
    made["WAV 5.1"] = partial(encoded, "WAVEX", "PCM_16", surround)
    files = {name: make() for name, make in made.items()}
    mp3, vorbis, opus = files["mp3 libmp3lame"], files["OGG VORBIS"], files["ogg libopus"]
    other = with_av("mp3", "libmp3lame", [mono], rate=48000)
    files["mp3 joined"] = mp3 + id3v1() + id3v2(200) + other
    files["mp3 tagged"] = id3v2(3000) + mp3 + ape() + id3v1()
    pipe = piped_flac(data=files["FLAC PCM_16"])
    files["FLAC joined"] = pipe + id3v1() + piped_flac(data=files["FLAC PCM_24"])
    files["ac3 joined"] = files["ac3 ac3"] + id3v2(200) + files["ac3 ac3"]
    files["ogg chained"] = vorbis + opus + vorbis
    return files
