"""Everything else, decoded by FFmpeg through PyAV, an extra."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...errors import AudioError
from ..blocks import Block
from ..mixing import Layout, stereo_gains
from ..mixing import told as mix_told
from ..source import File
from . import ac3, caf, layouts, loas, mpeg, pyav
from .checked import Checked
from .converter import Converter
from .frames import Trouble, behind, first, frames_of, gathered
from .rows import Coding, rows_of
from .sound import Check, Sound, Undecodable
from .tags import start_of

# Playlists and other formats that make FFmpeg open further files or addresses are left out.
_FORMATS = (
    # what people have
    "mp3,mov,mp4,m4a,3gp,matroska,webm,ogg,aac,loas,avi,flv,live_flv,mpeg,mpegts,asf,xwma,wav,aiff,"
    "caf,w64,flac,wv,ape,tta,tak,mpc,mpc8,ac3,eac3,dts,dtshd,truehd,mlp,amr,amrnb,amrwb,au,mp2,dsf,"
    "iff,rm,oma,aa,wtv,mxf,nut,dv,swf,"
    # what old programs and archives have
    "voc,nistsphere,ircam,paf,epaf,pvf,avr,sox,sds,shn,gsm,qcp,sbc,vqf,wve,qoa,adx,hcom,dss,rso,spdif"
)

# FFmpeg's names of a decoder's samples -> what holds them, as soundfile names it
_DEPTHS = {"u8": "PCM_16", "s16": "PCM_16", "s32": "PCM_32"}
_FLOAT_DEPTHS = {"flt": "FLOAT", "dbl": "DOUBLE"}  # of codings without a loss
_NOTHING = "audio: nothing of its sound can be decoded; is the file complete?"
_LOUDEST = 16.0  # beyond it, 24 dB above full scale, a lossy decoder was misled by damage
_SKIP_MANUAL = 1 << 29  # AV_CODEC_FLAG2_SKIP_MANUAL
_TS_PACKETS = (188, 192, 204)  # bytes
_MOST_CUT = 0.1  # seconds that a container may announce in vain without being told


def read_header(file: File, check: Check) -> Sound:
    """The sound of the file's default audio track, two channels at most. Raises Undecodable."""
    av = pyav.imported()
    with _Opened(av, file, check) as opened:
        kind = opened.container.format.name
    # FFmpeg 8 trims a CAF's last packet a second time
    before, total = (caf.length(file) if kind == "caf" else None) or (0, None)
    warnings: list[str] = []
    if kind in _FRAMED:
        file = _frames_alone(file, _FRAMED[kind], check, warnings)
    if kind == "mpegts" and all(file.size % size for size in _TS_PACKETS):
        warnings.append("the file breaks off inside a packet; what comes before was taken")
    with _Opened(av, file, check) as opened:
        start = opened.start(trimmed=total is None)
    warnings.extend(start.warnings)
    channels, rate = min(start.channels, 2), start.rate
    if start.channels > 2:
        stereo_gains(start.layout, start.channels)
        warnings.append(mix_told(start.layout, start.channels))

    def decoded() -> Iterator[Block]:
        trouble = Trouble()
        converter = Converter(channels, rate)
        count = 0
        for block in _blocks(
            av, file, check, converter, trouble, start.lossy, trimmed=total is None
        ):
            count += len(block)
            yield block
        if not count:
            raise Undecodable(_NOTHING)
        if start.announced is not None and count >= start.announced:
            trouble.gaps = 0  # behind its end
        warnings.extend([*trouble.told(), *converter.changes])
        if start.announced is not None and start.announced - count > _MOST_CUT * rate:
            warnings.append(f"the file announces {start.announced} samples, it has {count}")

    return Sound(
        sample_rate=rate,
        channels=channels,
        # encoders pad, so what is longer by less than a second may turn out to fit
        samples=None if start.announced is None else max(start.announced - rate, 0),
        subtype=start.subtype,
        sent_unchanged=False,
        blocks=lambda: first(
            start.total if total is None else total,
            gathered(behind(before, decoded()), channels),
        ),
        warnings=warnings,
    )


def _frames_alone(file: File, coding: Coding, check: Check, warnings: list[str]) -> File:
    """A row of frames without what stands before, between and behind them, in which FFmpeg would
    look for frames, and miss where the sound begins and ends."""
    rows = rows_of(file, coding, check)
    if not rows.ranges:
        return file
    if skipped := rows.ranges[0][0] - start_of(file):
        warnings.append(f"{skipped} bytes before its first frame were skipped")
    if between := rows.between():
        warnings.append(f"{between} bytes between its frames are no sound and were skipped")
    if rows.told > rows.samples:
        warnings.append(f"the file announces {rows.told} samples, it has {rows.samples}")
    elif rows.cut:
        warnings.append("the file breaks off; its last frame isn't whole and was left out")
    return file.spliced(rows.ranges)


def _blocks(
    av: Any,
    file: File,
    check: Check,
    converter: Converter,
    trouble: Trouble,
    lossy: bool,
    *,
    trimmed: bool,
) -> Iterator[Block]:
    packer = layouts.Packer(av)
    with _Opened(av, file, check) as opened:
        track, speakers = opened.track(trimmed)
        for frame, rate in frames_of(opened.file, opened.container, track, trouble):
            try:
                layout = layouts.of_frame(frame, speakers)
                block = packer.block(frame)
                if lossy and not np.max(np.abs(block), initial=0) <= _LOUDEST:  # true for NaN
                    trouble.broken += 1
                    block = np.nan_to_num(np.clip(block, -1, 1))
                yield from converter.convert(block, layout, rate)
            except (ValueError, AudioError, av.error.FFmpegError):  # frames that make no sense
                trouble.broken += 1
        try:
            yield from converter.rest()
        except av.error.FFmpegError:
            trouble.broken += 1


class _Start(NamedTuple):
    """What the first frame shows, which headers may have wrong, and what the header announces."""

    rate: int
    channels: int
    layout: Layout
    subtype: str | None
    lossy: bool
    announced: int | None  # samples
    total: int | None  # samples after which the sound ends, whatever follows
    warnings: list[str]


class _Opened:
    """A container that FFmpeg has opened."""

    def __init__(self, av: Any, file: File, check: Check) -> None:
        self.file = Checked(file.stream, check)
        options = {
            "format_whitelist": _FORMATS,
            "protocol_whitelist": "none",
            "codec_whitelist": pyav.audio_decoders(),
            "max_streams": "64",  # each may have an index as large as cap_allocations() allows
        }
        kinds: list[str | None] = [None]  # FFmpeg looks for itself
        if (known := _kind_of(file.head(6, start_of(file)))) is not None:
            kinds.append(known)  # which takes it more frames than a short file has
        for kind in kinds:
            file.stream.seek(0)
            try:
                self.container = av.open(
                    self.file, "r", format=kind, options=options, metadata_errors="ignore"
                )
                return
            except Exception as error:
                self.file.pass_on(error)
                failure = _undecodable(error, file.head(8))
                failure.__cause__ = error
        raise failure

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def track(self, trimmed: bool) -> tuple[Any, Layout]:
        """What the command ffmpeg takes: the default one, or that of the most channels; trimmed:
        without what encoders pad. To be called once. Raises Undecodable."""
        streams = list(self.container.streams.audio)
        if not streams:
            raise Undecodable("audio: the file has no sound track")
        known = [stream for stream in streams if stream.codec_context is not None]
        if not known:
            raise Undecodable("audio: FFmpeg has no decoder for its sound track")
        told = [layouts.of_track(stream.codec_context) for stream in known]
        best = max(
            range(len(known)), key=lambda at: (known[at].disposition.value & 1, told[at][0], -at)
        )
        if not trimmed:
            known[best].codec_context.flags2 |= _SKIP_MANUAL
        return known[best], told[best][1]

    def start(self, trimmed: bool) -> _Start:
        """Decodes the first frame. Raises Undecodable."""
        stream, speakers = self.track(trimmed)
        decoded = next(frames_of(self.file, self.container, stream, Trouble()), None)
        if decoded is None:
            raise Undecodable(_NOTHING)
        frame, rate = decoded
        try:
            layout = layouts.of_frame(frame, speakers)
        except ValueError as error:
            raise Undecodable(f"audio: {error} cannot be decoded") from error
        there = len(frame.layout.channels)
        kind = frame.format.name.removesuffix("p")
        subtype = _DEPTHS.get(kind) if there <= 2 else None
        exact = stream.codec_context.codec.name.startswith(("pcm_", "wavpack"))
        if there <= 2 and exact:
            subtype = subtype or _FLOAT_DEPTHS.get(kind)
        announced = _announced(self.container, stream, rate)
        tracks = list(self.container.streams.audio)
        warnings = []
        if len(tracks) > 1:
            number = 1 + tracks.index(stream)
            warnings.append(f"number {number} of {len(tracks)} audio tracks was taken")
        return _Start(
            rate,
            there,
            layout,
            subtype,
            kind == "flt" and subtype is None and not exact,
            announced,
            announced if self.container.format.name == "flac" else None,  # others estimate it
            warnings,
        )


def _announced(container: Any, stream: Any, rate: int) -> int | None:
    """The samples that the header announces; None where FFmpeg estimates them from a bit rate."""
    if container.format.name in _ESTIMATED:
        return None
    if stream.duration is not None and stream.time_base is not None:
        return int(stream.duration * stream.time_base * rate)
    if container.duration is not None and len(container.streams) == 1:  # Matroska
        return int(container.duration * rate // 1_000_000)
    return None


def _kind_of(head: bytes) -> str | None:
    """FFmpeg's name of what begins with such a frame, for a row of frames."""
    if head[:2] == b"\x0b\x77":
        return "eac3" if head[5:] > b"\x57" else "ac3"
    if head[:2] in (b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9"):
        return "aac"
    if loas.CODING.frame_of(head[:3]):
        return "loas"
    return "mp3" if mpeg.CODING.frame_of(head[:4]) else None


_FRAMED = {"mp3": mpeg.CODING, "ac3": ac3.CODING, "eac3": ac3.CODING, "loas": loas.CODING}
_ESTIMATED = {"mp3", "aac", "ac3", "eac3", "dts", "mpeg", "mpegts", "amr", "flv", "avi", "asf"}


def _undecodable(error: Any, head: bytes) -> Undecodable:
    if head[4:8] in (b"ftyp", b"moov", b"mdat"):
        return Undecodable(
            "audio: is an MP4 or M4A whose index (moov) is missing or broken; is the file complete?"
        )
    if isinstance(error, EOFError):
        return Undecodable(_NOTHING)
    return Undecodable("audio: is no sound that can be decoded; is it an audio file, and complete?")
