"""Files that are whole: what stands around them, sizes, FLAC from a pipe, odd headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from melodyflow_client.audio import load, waveform

from .case import Case
from .sounds import (
    AMBISONIC,
    RATE,
    SIZES,
    Samples,
    ape,
    chunk,
    encoded,
    extensible,
    ffmpeg_decodes,
    float32,
    fmt,
    id3v1,
    id3v2,
    lyrics3,
    packed,
    put_size,
    riff,
    sound,
    wav,
    with_av,
)


def noise(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


LOSSLESS: dict[str, Callable[[], bytes]] = {
    "WAV": lambda: encoded("WAV"),
    "float WAV": lambda: encoded("WAV", "FLOAT"),
    "RF64": lambda: encoded("RF64"),
    "W64": lambda: encoded("W64"),
    "AIFF": lambda: encoded("AIFF"),
    "CAF": lambda: encoded("CAF"),
    "AU": lambda: encoded("AU"),
    "FLAC": lambda: encoded("FLAC"),
    "WavPack": lambda: with_av("wv", "wavpack"),
    "ALAC": lambda: with_av("ipod", "alac"),
}
LOSSY: dict[str, Callable[[], bytes]] = {
    "MP3": lambda: with_av("mp3", "libmp3lame"),
    "M4A": lambda: with_av("ipod", "aac"),
    "Ogg Vorbis": lambda: encoded("OGG", "VORBIS"),
    "Ogg Opus": lambda: with_av("ogg", "libopus", rate=48000),
    "ADTS": lambda: with_av("adts", "aac"),
}


def around() -> Iterator[Case]:
    """Anything before or behind the container."""
    for name, make in {**LOSSLESS, **LOSSY}.items():
        data = make()
        rate = 48000 if name == "Ogg Opus" else RATE
        expected = sound() if name in LOSSLESS else _clean(name, data)
        for size in (10, 64 << 10, 300_000):
            yield Case(
                f"{name} behind an ID3v2 tag of {size} bytes",
                name,
                id3v2(size) + data,
                expected,
                rate=rate,
            )
        for words, behind in (("ID3v1", id3v1()), ("APE", ape()), ("Lyrics3", lyrics3() + id3v1())):
            yield Case(f"{name}, {words} behind it", name, data + behind, expected, rate=rate)
        if name != "ADTS":
            for words, (before, behind) in (
                (f"{name}, 5000 zeros behind it", (b"", bytes(5000))),
                (f"777 zeros, {name}", (bytes(777), b"")),
                (f"5001 bytes of junk, {name}", (noise(5001), b"")),
            ):
                told = ("bytes before",) if before else ()
                yield Case(words, name, before + data + behind, expected, told, rate=rate)


def _clean(name: str, data: bytes) -> Samples:
    # of a short file FFmpeg makes more or less than libvorbis
    return waveform(load(data).data)[0].T if name == "Ogg Vorbis" else ffmpeg_decodes(data)[0]


def with_size(name: str, data: bytes, size: int) -> bytes:
    layout, place = SIZES[name]
    return put_size(data, layout, place(data), size)


def sizes() -> Iterator[Case]:
    """Sizes that were never filled in, that overshoot, or that a cut file no longer has."""
    for name in SIZES:
        data = encoded(name)
        for size in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36):
            if (name, size) == ("W64", 0):
                continue
            yield Case(f"{name} of size {size:#x}", name, with_size(name, data, size), sound())
        if name != "AIFF":  # its length stands in another place as well
            told = ("announces",)
            whole = with_size(name, data, len(data))
            yield Case(f"{name} of the whole file's size", name, whole, sound(), told)
            doubled = with_size(name, data, 2 * len(data))
            yield Case(f"{name} of twice the size", name, doubled, sound(), told)
        # 1000 bytes and a half, less what libsndfile puts behind the samples
        cut = data[: data.index(sound().astype(_order(name)).tobytes()[:64]) + 4 * 5000 + 2]
        yield Case(f"{name}, cut inside a frame", name, cut, sound()[:5000], ("announces",))
    behind = chunk(b"LIST", b"INFOISFT\x04\0\0\0Lavf")
    yield Case("WAV of size 0, bytes behind it", "WAV", wav(size=0), sound())
    yield Case("WAV with a chunk behind its samples", "WAV", wav(behind=behind), sound())
    for subtype in ("MS_ADPCM", "PCM_U8", "ULAW", "PCM_24", "DOUBLE"):
        data = encoded("WAV", subtype)
        yield Case(
            f"WAV ({subtype}) of size 0xffffffff",
            "WAV",
            with_size("WAV", data, 0xFFFFFFFF),
            waveform(load(data).data)[0].T,
        )


def _order(name: str) -> str:
    return ">i2" if name in ("AIFF", "AU", "CAF") else "<i2"


def piped_flac(*, total: bool = False, checksum: bool = False, data: bytes | None = None) -> bytes:
    """A FLAC whose header was never finished."""
    changed = bytearray(encoded("FLAC") if data is None else data)
    if not total:
        changed[18:26] = (int.from_bytes(changed[18:26], "big") >> 36 << 36).to_bytes(8, "big")
    if not checksum:
        changed[26:42] = bytes(16)
    return bytes(changed)


def flac() -> Iterator[Case]:
    """FLAC without a total or a checksum, and with bytes behind its last sample."""
    for total in (False, True):
        for checksum in (False, True):
            data = piped_flac(total=total, checksum=checksum)
            name = f"FLAC {'with' if total else 'without'} a total"
            name += f", {'with' if checksum else 'without'} a checksum"
            yield Case(name, "FLAC", data, sound())
            if total:
                yield Case(
                    f"{name}, another FLAC behind it", "FLAC", data + encoded("FLAC"), sound()
                )
                yield Case(f"{name}, 5000 zeros behind it", "FLAC", data + bytes(5000), sound())
    yield Case(
        "FLAC of 24 bits without a total",
        "FLAC",
        piped_flac(data=encoded("FLAC", "PCM_24")),
        sound(),
    )
    yield Case("FLAC without a total, ID3v1 behind it", "FLAC", piped_flac() + id3v1(), sound())


def odd() -> Iterator[Case]:
    """Headers that are odd, and codings that the server doesn't take."""
    plain = sound().tobytes()
    for name, layout, data in (
        ("block align 0", fmt(align=0), plain),
        ("block align in bits", fmt(align=32), plain),
        ("block align of another width", fmt(align=2), plain),
        ("12 bits in 2 bytes", fmt(bits=12, align=4), plain),
        ("20 bits in 3 bytes", fmt(bits=20, align=6), packed(sound(), 3)),
        ("24 bits in 4 bytes", fmt(bits=24, align=8), packed(sound(), 4)),
        ("24 valid bits of 32", extensible(2, 32, 3, valid=24), packed(sound(), 4)),
        ("20 valid bits of 24", extensible(2, 24, 3, valid=20), packed(sound(), 3)),
        ("float 32, extensible", extensible(2, 32, 3, tag=3), float32(sound()).tobytes()),
        ("float 64", fmt(bits=64, tag=3), float32(sound()).astype("<f8").tobytes()),
        ("no channel mask", extensible(2, 16, 0), plain),
        ("a mask of other speakers", extensible(2, 16, 0x30), plain),
        ("ambisonic, two channels", extensible(2, 16, 0, tail=AMBISONIC), plain),
        ("an odd chunk without padding", fmt() + b"LIST\5\0\0\0INFOx", plain),
        ("a chunk of 100001 bytes first", chunk(b"JUNK", bytes(100_001)) + fmt(), plain),
    ):
        yield Case(f"WAV: {name}", "WAV", riff(layout, chunk(b"data", data)), sound())
    for container, subtype, error in (
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "ALAW", 0.02),
        ("WAV", "ULAW", 0.02),
        ("WAV", "MS_ADPCM", 0.05),
        ("W64", "PCM_24", 0.0),
        ("AIFF", "PCM_S8", 2**-7),
        ("AIFF", "ULAW", 0.02),
        ("AIFF", "DOUBLE", 1e-6),
        ("CAF", "ALAC_16", 0.0),
        ("CAF", "ALAC_24", 0.0),
        ("CAF", "ALAW", 0.02),
        ("AU", "PCM_24", 0.0),
        ("AU", "FLOAT", 1e-6),
        ("NIST", "PCM_16", 0.0),
        ("IRCAM", "FLOAT", 1e-6),
        ("PAF", "PCM_16", 0.0),
    ):
        yield Case(
            f"{container}, {subtype}", container, encoded(container, subtype), sound(), error=error
        )
    yield Case("ALAC in CAF, by FFmpeg", "CAF", with_av("caf", "alac"), sound())
    for coder, frames in (("GSM610", 10_000), ("G721_32", 20_020)):
        mono = sound(1, frames)
        yield Case(
            f"WAV, {coder}, {frames} samples",
            "WAV",
            encoded("WAV", coder, mono),
            mono,
            exact=False,
            alike=0.9,
        )
    for codec in ("adpcm_ima_wav", "adpcm_ms", "adpcm_yamaha"):
        data = with_av("wav", codec)
        yield Case(f"WAV, {codec} by FFmpeg", "WAV", data, ffmpeg_decodes(data)[0], error=1e-3)


KINDS = {
    "Before and behind the container": around,
    "Sizes": sizes,
    "FLAC from a pipe": flac,
    "Odd headers and codings": odd,
}
