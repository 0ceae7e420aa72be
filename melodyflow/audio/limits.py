"""What is accepted as input, and how what is not is refused."""

from dataclasses import dataclass

from melodyflow import contract
from melodyflow.errors import AudioError


@dataclass(frozen=True)
class Limits:
    """What is accepted as input, whatever the checkpoint."""

    max_bytes: int = contract.Limits.max_audio_bytes  # of the file, after base64
    max_channels: int = contract.Limits.max_channels
    min_sample_rate: int = contract.Limits.min_sample_rate  # Hz
    max_sample_rate: int = contract.Limits.max_sample_rate  # Hz
    min_seconds: float = contract.Limits.min_seconds

    def check_bytes(self, size: int) -> None:
        """Of a file, before anything of it is read. Raises AudioError, as all checks do."""
        if size > self.max_bytes:
            raise AudioError(f"audio: {size} bytes; at most {self.max_bytes} are allowed")

    def check_channels(self, channels: int) -> None:
        if not 1 <= channels <= self.max_channels:
            raise AudioError(f"audio: {channels} channels; 1 to {self.max_channels} are allowed")

    def check_sample_rate(self, rate: int) -> None:
        if not self.min_sample_rate <= rate <= self.max_sample_rate:
            raise AudioError(
                f"audio: {rate} Hz; {self.min_sample_rate} to {self.max_sample_rate} Hz are allowed"
            )

    def check_length(self, samples: int, rate: int, most: int) -> None:
        """`most`: samples at `rate` that the model takes."""
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
