"""The limits on input audio, and their error messages."""

from dataclasses import dataclass

from melodyflow import contract
from melodyflow.errors import AudioError


@dataclass(frozen=True)
class Limits:
    """The limits that don't depend on the checkpoint. The checks raise AudioError."""

    max_bytes: int = contract.Limits.max_audio_bytes  # of the file, after base64
    max_channels: int = contract.Limits.max_channels
    min_sample_rate: int = contract.Limits.min_sample_rate  # Hz
    max_sample_rate: int = contract.Limits.max_sample_rate  # Hz
    min_seconds: float = contract.Limits.min_seconds

    def check_bytes(self, size: int) -> None:
        """Checks a file's size, before any of it is read."""
        if size > self.max_bytes:
            raise AudioError(f"audio: {size} bytes; at most {self.max_bytes} are allowed")

    def check_channels(self, channels: int) -> None:
        if not 1 <= channels <= self.max_channels:
            advice = "; mix them to stereo, as the client package does" if channels > 2 else ""
            raise AudioError(
                f"audio: {channels} channels; 1 to {self.max_channels} are allowed{advice}"
            )

    def check_sample_rate(self, rate: int) -> None:
        if not self.min_sample_rate <= rate <= self.max_sample_rate:
            raise AudioError(
                f"audio: {rate} Hz; {self.min_sample_rate} to {self.max_sample_rate} Hz are allowed"
            )

    def check_length(self, samples: int, rate: int, most: int) -> None:
        """`most`: the longest clip the model accepts, in samples at `rate`."""
        if samples > most:
            raise AudioError(
                f"audio: {samples} samples at {rate} Hz ({samples / rate:.3f} s); "
                f"at most {most} ({most / rate:.3f} s) are allowed"
            )
        if samples == 0 or samples / rate < self.min_seconds:
            raise AudioError(
                f"audio: {samples} samples at {rate} Hz ({samples / rate:.3f} s); "
                f"at least {self.min_seconds} s are needed"
            )
