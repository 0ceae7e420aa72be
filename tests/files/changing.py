"""Files that change, are damaged, or have more than two channels or one track."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from melodyflow_client.audio import load, waveform

from .case import Case, brought
from .sounds import (
    AMBISONIC,
    RATE,
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
    riff,
    sound,
    with_av,
)
from .whole import noise, piped_flac

SECOND = 44_100
PLAIN_MP3 = {"write_xing": "0", "id3v2_version": "0"}


def mp3(samples: Samples, rate: int = RATE, options: dict[str, str] | None = None) -> bytes:
    return with_av("mp3", "libmp3lame", [samples], rate=rate, options=options)


def joined(parts: Sequence[bytes], channels: int) -> Samples:
    """What FFmpeg makes of each part, one after another at the first one's rate."""
    decoded = [ffmpeg_decodes(part) for part in parts]
    return np.concatenate(
        [brought(samples, rate, decoded[0][1], channels) for samples, rate in decoded]
    )


def changes() -> Iterator[Case]:
    """Rates and channels that change inside a stream; chained Ogg."""
    stereo, other, mono = sound(2, SECOND), sound(2, 48_000, 1), sound(1, SECOND, 2)
    for name, options in (("MP3", PLAIN_MP3), ("MP3 with a LAME tag", {})):
        at_44, at_48 = mp3(stereo, RATE, options), mp3(other, 48_000, options)
        single = mp3(mono, RATE, options)
        # a LAME tag trims the first part alone, as in FFmpeg
        slack = 64 if options else 7200
        for words, parts, channels, rate in (
            ("44.1 kHz, then 48", (at_44, at_48), 2, RATE),
            ("48 kHz, then 44.1", (at_48, at_44), 2, 48_000),
            ("stereo, mono, stereo", (at_44, single, at_44), 2, RATE),
            ("mono, stereo", (single, at_44), 1, RATE),
        ):
            yield Case(
                f"{name}: {words}",
                name,
                b"".join(parts),
                joined(parts, channels),
                ("changes to", *(() if options else ("no sound",))),
                rate=rate,
                exact=False,
                slack=slack,
                alike=0.97 if options else 0.4,
            )
    vorbis, mono_flac = (
        encoded("OGG", "VORBIS", stereo),
        with_av("ogg", "flac", [sound(1, 48_000, 3)], rate=48_000),
    )
    opus = with_av("ogg", "libopus", [other], rate=48_000)
    mono_opus = with_av("ogg", "libopus", [sound(1, 48_000, 2)], rate=48_000)
    flac = with_av("ogg", "flac", [stereo])
    for words, parts, channels, rate in (
        ("Vorbis, Vorbis", (vorbis, vorbis), 2, RATE),
        ("Opus in stereo, mono", (opus, mono_opus), 2, 48_000),
        ("Opus in mono, stereo", (mono_opus, opus), 1, 48_000),
        ("FLAC at 44.1 kHz, 48 in mono", (flac, mono_flac), 2, RATE),
        ("Vorbis at 44.1 kHz, Opus at 48", (vorbis, opus), 2, RATE),
    ):
        yield Case(
            f"Ogg, chained: {words}",
            "Ogg",
            b"".join(parts),
            joined(parts, channels),
            () if parts[0] is parts[1] else ("changes to",),
            rate=rate,
            exact=False,
            slack=2,
            alike=0.98,
        )
    plain, at_48, single = (
        _flac(samples, rate) for samples, rate in ((stereo, RATE), (other, 48_000), (mono, 32_000))
    )
    for words, streams, channels in (
        ("44.1 kHz twice", (plain, plain), 2),
        ("44.1 kHz, then 48", (plain, at_48), 2),
        ("32 kHz in mono, then 44.1", (single, plain), 1),
        ("tags between, 44.1 kHz, then 48", (plain + id3v1() + id3v2(3000), at_48), 2),
    ):
        yield Case(
            f"FLACs from a pipe, joined: {words}",
            "FLAC",
            b"".join(streams),
            joined(streams, channels),
            () if streams[0] is streams[1] else ("changes to",),
            rate=ffmpeg_decodes(streams[0])[1],
            exact=False,
            slack=2,
            alike=0.999,
        )
    for container in ("adts", "mpegts"):
        parts = tuple(
            with_av(container, "aac", [samples], rate=rate)
            for samples, rate in ((stereo, RATE), (sound(1, 48_000, 1), 48_000))
        )
        yield Case(
            f"AAC in {container}: 44.1 kHz, then 48 in mono",
            container,
            b"".join(parts),
            joined(parts, 2),
            ("changes to",),
            exact=False,
            slack=64,
            alike=0.97,
        )


def _flac(samples: Samples, rate: int) -> bytes:
    """As from a pipe."""
    return piped_flac(data=with_av("flac", "flac", [samples], rate=rate))


def _damaged(data: bytes, size: int = 200) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(size) + data[middle + size :]


def damage() -> Iterator[Case]:
    """Tags inside, joined and cut files, broken packets: what can be decoded is, and told."""
    stereo = sound(2, SECOND)
    data = mp3(stereo)
    second = mp3(sound(2, SECOND, 8))
    clean = ffmpeg_decodes(data)[0]
    middle = len(data) // 2
    for words, inside in (
        ("an ID3v1 tag", id3v1()),
        ("Lyrics3 and ID3v1", lyrics3() + id3v1()),
        ("an APE tag", ape()),
        ("an ID3v2 tag", id3v2(3000)),
        ("5000 zeros", bytes(5000)),
        ("3000 bytes of noise", noise(3000)),
    ):
        yield Case(
            f"MP3 with {words} inside",
            "MP3",
            data[:middle] + inside + data[middle:],
            clean,
            ("no sound",),
            exact=False,
            slack=0,
            alike=0.95,
        )
        yield Case(
            f"two MP3s with {words} between",
            "MP3",
            data + inside + second,
            np.concatenate([clean, ffmpeg_decodes(second)[0]]),
            ("no sound",),
            exact=False,
            slack=4800,
            alike=0.4,
        )
    yield Case("MP3 with noise behind it", "MP3", data + noise(3000), clean)
    for codec in ("ac3", "eac3"):
        frames = with_av(codec, codec, [stereo])
        clean = ffmpeg_decodes(frames)[0]
        yield Case(f"{codec} with noise behind it", codec, frames + noise(3000), clean)
        half = frames.index(frames[:2], len(frames) // 2)
        yield Case(
            f"{codec} with noise inside",
            codec,
            frames[:half] + noise(3000) + frames[half:],
            clean,
            ("no sound",),
        )
    for name, whole in {
        "MP3": data,
        "ADTS": with_av("adts", "aac", [stereo]),
        "MPEG-TS": with_av("mpegts", "aac", [stereo]),
        "M4A, index first": with_av("ipod", "aac", [stereo], options={"movflags": "+faststart"}),
        "fragmented MP4": with_av(
            "mp4",
            "aac",
            [stereo],
            options={
                "movflags": "frag_keyframe+empty_moov+default_base_moof",
                "frag_duration": "200000",
            },
        ),
        "Matroska": with_av("matroska", "aac", [stereo]),
        "FLV": with_av("flv", "aac", [stereo]),
        "WavPack": with_av("wv", "wavpack", [stereo]),
        "FLAC": encoded("FLAC", None, stereo),
        "Ogg Vorbis": encoded("OGG", "VORBIS", stereo),
        "ALAC in CAF": encoded("CAF", "ALAC_16", stereo),
        "ADPCM": encoded("WAV", "MS_ADPCM", stereo),
    }.items():
        expected = waveform(load(whole).data)[0].T
        yield Case(
            f"{name}, cut after three fifths",
            name,
            whole[: len(whole) * 3 // 5 + 1],
            expected,
            ("",),
            exact=False,
            slack=SECOND * 7 // 10,
            alike=0.4,
        )
        if name not in ("ALAC in CAF", "ADPCM", "WavPack"):  # whose damage nothing shows
            yield Case(
                f"{name}, zeros in its middle",
                name,
                _damaged(whole),
                expected,
                ("",),
                exact=False,
                slack=SECOND * 6 // 10,
                alike=0.3,
            )
    latin = b"F\xfcr Elise \xff\xfe\x80"
    for container, codec in (
        *(("mp3", "libmp3lame"), ("ipod", "aac"), ("flac", "flac"), ("matroska", "aac")),
        *(("avi", "pcm_s16le"), ("wav", "pcm_s16le"), ("mov", "pcm_s16be")),
    ):
        named = with_av(container, codec, title=b"Q" * len(latin))
        yield Case(
            f"a title in Latin-1 in {container}",
            container,
            named.replace(b"Q" * len(latin), latin),
            ffmpeg_decodes(named)[0],
        )
    bare = mp3(stereo, options=PLAIN_MP3)
    for words, frames in (
        ("a broken picture", _id3_frame(b"APIC", b"\0image/png\0\3\0" + bare[:4] * 3000)),
        ("broken chapters", _id3_frame(b"CHAP", b"\xfc\0" + noise(300))),
    ):
        yield Case(f"MP3 with {words}", "MP3", _id3(frames) + bare, ffmpeg_decodes(bare)[0])


def _synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _id3_frame(name: bytes, body: bytes) -> bytes:
    return name + _synchsafe(len(body)) + b"\0\0" + body


def _id3(frames: bytes) -> bytes:
    return b"ID3\x04\0\0" + _synchsafe(len(frames)) + frames


HALF = 0.5**0.5
GAINS = {  # ITU-R BS.775
    "FL": (1, 0),
    "FR": (0, 1),
    "FC": (HALF, HALF),
    "LFE": (0, 0),
    "BL": (HALF, 0),
    "BR": (0, HALF),
    "SL": (HALF, 0),
    "SR": (0, HALF),
    "BC": (0.5, 0.5),
}
LAYOUTS = {  # name -> channel mask, speakers
    "3.0": (0x7, "FL FR FC"),
    "quad": (0x33, "FL FR BL BR"),
    "4.0": (0x107, "FL FR FC BC"),
    "5.0": (0x37, "FL FR FC BL BR"),
    "5.1": (0x3F, "FL FR FC LFE BL BR"),
    "5.1(side)": (0x60F, "FL FR FC LFE SL SR"),
    "6.1": (0x70F, "FL FR FC LFE BC SL SR"),
    "7.1": (0x63F, "FL FR FC LFE BL BR SL SR"),
}


def mix(samples: Samples, speakers: str) -> Samples:
    gains = np.array([GAINS[name] for name in speakers.split()], np.float32)
    mixed: Samples = float32(samples) @ gains
    return mixed


def channels() -> Iterator[Case]:
    """More than two channels, by layout and container; several tracks."""
    mixed = "were mixed to stereo"
    for name, (mask, speakers) in LAYOUTS.items():
        count = len(speakers.split())
        many = (sound(count) // 2).astype(np.int16)
        expected = mix(many, speakers)
        data = chunk(b"data", many.tobytes())
        yield Case(
            f"WAV, {name}", "WAV", riff(extensible(count, 16, mask), data), expected, (mixed,)
        )
        if name in ("3.0", "quad", "5.0", "5.1", "6.1", "7.1"):
            told = (mixed, "assumed")
            yield Case(
                f"WAV of {count} channels, no mask", "WAV", riff(fmt(count), data), expected, told
            )
            zero = riff(extensible(count, 16, 0), data)
            yield Case(f"WAV of {count} channels, mask 0", "WAV", zero, expected, told)
            for container in ("AIFF", "CAF", "W64", "AU"):
                yield Case(
                    f"{container} of {count} channels",
                    container,
                    encoded(container, None, many),
                    expected,
                    told,
                )
            yield Case(
                f"FLAC of {count} channels", "FLAC", encoded("FLAC", None, many), expected, (mixed,)
            )
        for container, codec in (
            ("wv", "wavpack"),
            ("matroska", "flac"),
            ("mov", "pcm_s16le"),
            ("caf", "pcm_s16le"),
        ):
            yield Case(
                f"{codec} in {container}, {name}",
                container,
                with_av(container, codec, [many], layout=name),
                expected,
                (mixed,),
            )
    surround = (sound(6) // 2).astype(np.int16)
    for container, codec, rate in (("ipod", "aac", RATE), ("ac3", "ac3", RATE)):
        data = with_av(container, codec, [surround], rate=rate)
        expected = mix(ffmpeg_decodes(data)[0], LAYOUTS["5.1"][1])
        yield Case(f"{codec} of 5.1", container, data, expected, (mixed,))
    ambisonic = (sound(4) // 2).astype(np.int16)
    w, _, y, _ = float32(ambisonic).T
    yield Case(
        "WAV, ambisonic (W X Y Z)",
        "WAV",
        riff(extensible(4, 16, 0, tail=AMBISONIC), chunk(b"data", ambisonic.tobytes())),
        np.stack([HALF * w + y / 2, HALF * w - y / 2], 1),
        (mixed,),
    )
    first, second = sound(2, SECOND, 1), sound(2, SECOND, 2)
    mono = sound(1, SECOND, 3)
    for container, codec in (("matroska", "flac"), ("mov", "pcm_s16le")):
        for default, tracks in ((0, (first, second)), (1, (first, second)), (1, (second, mono))):
            yield Case(
                f"{container}: track {default + 1} of 2 is the default, "
                f"of {tracks[default].shape[1]} channels",
                container,
                with_av(container, codec, tracks, default=default),
                tracks[default],
                (f"number {default + 1} of 2",),
            )
    yield Case(
        "matroska: no default track, the second has more channels",
        "Matroska",
        with_av("matroska", "flac", (mono, first)),
        first,
        ("number 2 of 2",),
    )


KINDS = {
    "Rates and channels that change": changes,
    "Damage": damage,
    "Channels and tracks": channels,
}
