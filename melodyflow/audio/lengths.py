"""The length of a clip at another sample rate, in integer arithmetic. Rates are in Hz."""


def model_length(samples: int, own_rate: int, model_rate: int) -> int:
    """Samples at `model_rate` that cover `samples` at `own_rate`, rounded up."""
    return -(-samples * model_rate // own_rate)


def result_length(samples: int, own_rate: int, asked_rate: int) -> int:
    """Samples at `asked_rate` that last as long as `samples` at `own_rate`, rounded."""
    return (2 * samples * asked_rate + own_rate) // (2 * own_rate)


def longest(rate: int, model_rate: int, max_model_samples: int) -> int:
    """The most samples at `rate` whose model_length() is within the limit."""
    return max_model_samples * rate // model_rate


def loop_length(samples: int, own_rate: int, model_rate: int, hop: int) -> int:
    """The length at `model_rate` of a loop of `samples` at `own_rate`: a whole number of frames of
    `hop` samples, at least one."""
    frames = (2 * samples * model_rate + own_rate * hop) // (2 * own_rate * hop)
    return max(1, frames) * hop
