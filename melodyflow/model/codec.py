"""The codec: SEANet autoencoder with a Gaussian posterior (docs/model.md, "The codec"; EnCodec,
arXiv 2210.13438, without its quantiser).

Waveform [batch, channels, samples] <-> latents [batch, latent, frames], `hop` samples per frame.
"""

import math
from itertools import groupby
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melodyflow.manifest import CodecConfig as CodecConfig

# The largest activation of the convolutions on a CPU, in values: glibc's malloc returns blocks of
# 32 MiB and more to the system at once, and fresh memory costs more than the arithmetic on it.
CPU_VALUES = 6_000_000
WARM_UP = 100  # frames after which the LSTM has forgotten where it began: the least before a ring


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, one alpha per channel (arXiv 2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return x + torch.sin(self.alpha * x).square() / (self.alpha + 1e-9)
        return (self.alpha * x).sin_().square_().div_(self.alpha + 1e-9).add_(x)


class Conv(nn.Module):
    """Convolution with "same" reflect padding: outputs ceil(samples / stride) frames."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, dilation=dilation)
        self.stride = stride
        self.extent = (kernel - 1) * dilation + 1

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-1]
        total = self.extent - self.stride
        right = total // 2
        # The last window is padded on the right, so that no sample is dropped.
        frames = math.ceil((length - self.extent + total) / self.stride + 1)
        extra = (frames - 1) * self.stride + (self.extent - total) - length
        return cast(Tensor, self.conv(reflect_pad(x, total - right, right + extra)))


def reflect_pad(x: Tensor, left: int, right: int) -> Tensor:
    """Reflect padding that also works for inputs shorter than the padding: they get zeros on the
    right first, which are removed again."""
    missing = max(0, max(left, right) - x.shape[-1] + 1)
    if missing:
        x = F.pad(x, (0, missing))
    end = x.shape[-1] - 1
    # The same as F.pad's "reflect", but several times faster on a CPU.
    parts = (x[..., 1 : left + 1].flip(-1), x, x[..., end - right : end].flip(-1))
    return torch.cat(parts, dim=-1)[..., : left + end + 1 + right - missing]


class TransposedConv(nn.Module):
    """Upsampling by `stride`: a full transposed convolution, trimmed on both sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convtr = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.stride = stride
        self.right = stride // 2
        self.left = stride - self.right

    def forward(self, x: Tensor) -> Tensor:
        on_cpu = x.device.type == "cpu" and not torch.is_grad_enabled()
        y = self._two_products(x) if on_cpu else self.convtr(x)
        return cast(Tensor, y[..., self.left : y.shape[-1] - self.right])

    def _two_products(self, x: Tensor) -> Tensor:
        """The same as `convtr`. On a CPU that one first compiles code for every new length, which
        takes longer than the convolution, and for some lengths seconds."""
        weight, stride = self.convtr.weight, self.stride
        bias = cast(Tensor, self.convtr.bias)[:, None, None]
        # Frame t of the input reaches `stride` samples from t * stride on, and as many after them.
        y = bias.repeat(x.shape[0], 1, x.shape[-1] + 1, stride)
        halves = ((weight[..., :stride], y[:, :, :-1]), (weight[..., stride:], y[:, :, 1:]))
        for taps, reached in halves:
            samples = taps.flatten(1).T @ x  # [batch, outputs * stride, frames]
            reached += samples.reshape(len(x), -1, stride, x.shape[-1]).transpose(2, 3)
        return y.flatten(2)


class Residual(nn.Module):
    """x + conv1x1(snake(conv(snake(x)))) with a bottleneck."""

    def __init__(self, channels: int, kernel: int, dilation: int, compress: int) -> None:
        super().__init__()
        hidden = channels // compress
        self.block = nn.Sequential(
            Snake(channels),
            Conv(channels, hidden, kernel, dilation=dilation),
            Snake(hidden),
            Conv(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.block(x))


class Recurrent(nn.Module):
    """Forward LSTM over the frames, from a zero state, added to its input."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        sequence = x.permute(2, 0, 1)
        output: Tensor = self.lstm(sequence)[0] + sequence
        return output.permute(1, 2, 0)


def _residuals(channels: int, config: CodecConfig) -> list[nn.Module]:
    return [
        Residual(
            channels, config.residual_kernel_size, config.dilation_base**depth, config.compress
        )
        for depth in range(config.n_residual_layers)
    ]


class Encoder(nn.Module):
    """Waveform [batch, channels, samples] -> mean and scale [batch, 2*latent, frames]."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width = config.n_filters
        layers: list[nn.Module] = [Conv(config.channels, width, config.kernel_size)]
        for ratio in reversed(config.ratios):
            layers += _residuals(width, config)
            layers += [Snake(width), Conv(width, 2 * width, 2 * ratio, stride=ratio)]
            width *= 2
        if config.lstm:
            layers.append(Recurrent(width, config.lstm))
        layers += [Snake(width), Conv(width, 2 * config.latent_dim, config.last_kernel_size)]
        self.model = nn.Sequential(*layers)

    def forward(self, waveform: Tensor) -> Tensor:
        return cast(Tensor, self.model(waveform))


class Decoder(nn.Module):
    """Latents [batch, latent, frames] -> waveform [batch, channels, frames*hop]."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width = config.n_filters * 2 ** len(config.ratios)
        layers: list[nn.Module] = [Conv(config.latent_dim, width, config.kernel_size)]
        if config.lstm:
            layers.append(Recurrent(width, config.lstm))
        for ratio in config.ratios:
            layers += [Snake(width), TransposedConv(width, width // 2, ratio)]
            width //= 2
            layers += _residuals(width, config)
        layers += [Snake(width), Conv(width, config.channels, config.last_kernel_size)]
        self.model = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self.model(latents))


class Codec(nn.Module):
    """Encoder and decoder. The decoder returns frames*hop samples: the caller crops."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, waveform: Tensor, *, piece: int | None = None, ring: bool = False) -> Tensor:
        """The mean and scale [batch, 2*latent, frames] for a waveform [batch, channels, samples].

        More than `piece` frames go through the convolutions in pieces of `piece` frames (fewer on a
        CPU, see `CPU_VALUES`). This bounds the memory and doesn't change the result: each piece
        includes all neighbours it depends on.
        `ring`: the end is followed by the start, in the waveform and in the result; the waveform
        must be a whole number of frames.
        """
        frames = self.config.frames(waveform.shape[-1])
        return self._run(self.encoder.model, waveform, frames, piece, ring)

    def decode(self, latents: Tensor, *, piece: int | None = None, ring: bool = False) -> Tensor:
        """The waveform [batch, channels, frames*hop] for latents [batch, latent, frames]. `piece`
        and `ring`: as in `encode`."""
        return self._run(self.decoder.model, latents, latents.shape[-1], piece, ring)

    def _run(
        self, model: nn.Sequential, x: Tensor, frames: int, piece: int | None, ring: bool
    ) -> Tensor:
        piece = piece or frames
        if x.device.type == "cpu":
            largest = self.config.hop * self.config.n_filters  # values a frame
            piece = min(piece, max(1, CPU_VALUES // largest))
        if frames <= piece and not ring:
            return cast(Tensor, model(x))
        for recurrent, layers in groupby(model, lambda layer: isinstance(layer, Recurrent)):
            stage = nn.Sequential(*layers)
            if not recurrent:
                x = _in_pieces(stage, x, frames, piece, ring)
            elif ring:
                # Laps to warm up: the start then knows the end.
                laps = max(1, math.ceil(WARM_UP / frames))
                x = stage(torch.cat([x] * (1 + laps), dim=-1))[..., laps * frames :]
            else:
                # The LSTM's memory is unlimited, so it must see all frames at once.
                x = stage(x)
        return x


def _in_pieces(stage: nn.Sequential, x: Tensor, frames: int, piece: int, ring: bool) -> Tensor:
    """Runs a stage of convolutions on x, `piece` of its `frames` at a time. The last frame of a
    waveform may be partly filled, unless it is a ring."""
    samples, made, halo = _scales(stage)
    whole = torch.empty(0)
    for first in range(0, frames, piece):
        last = min(first + piece, frames)
        begin = first - halo if ring else max(0, first - halo)
        seen = slice(begin * samples, (last + halo) * samples)
        if ring:
            around = torch.arange(seen.start, seen.stop, device=x.device) % x.shape[-1]
            y = stage(x[..., around])
        else:
            y = stage(x[..., seen])
        if not first:
            whole = y.new_empty((*y.shape[:-1], frames * made))
        kept = slice((first - begin) * made, (last - begin) * made)
        whole[..., first * made : last * made] = y[..., kept]
    return whole


def _scales(stage: nn.Sequential) -> tuple[int, int, int]:
    """Samples per frame of a stage's input and of its output, and the most frames on either side
    that its output depends on. A stage samples either down to frames or up from them."""
    layers = list(stage.modules())
    samples = math.prod(layer.stride for layer in layers if isinstance(layer, Conv))
    reach, now = 0.0, samples
    for layer in layers:
        if isinstance(layer, Conv):
            reach += (layer.extent - 1) / now
            now //= layer.stride
        elif isinstance(layer, TransposedConv):
            reach += 1 / now
            now *= layer.stride
    return samples, now, math.ceil(reach)


def posterior_sample(mean_and_scale: Tensor, noise: Tensor) -> Tensor:
    """Draws latents [batch, latent, frames] from the posterior, with standard normal `noise` of
    that shape."""
    mean, scale = mean_and_scale.chunk(2, dim=1)
    return noise * (F.softplus(scale) + 1e-4) + mean
