"""How many samples a clip has at another rate, in integers. Rates are in Hz."""


def model_length(samples: int, own_rate: int, model_rate: int) -> int:
    """Samples at `model_rate` that cover `samples` at `own_rate`: ceil, in integers."""
    return -(-samples * model_rate // own_rate)


def result_length(samples: int, own_rate: int, asked_rate: int) -> int:
    """Samples at `asked_rate` that last as long as `samples` at `own_rate`: nearest integer."""
    return (2 * samples * asked_rate + own_rate) // (2 * own_rate)


def longest(rate: int, model_rate: int, max_model_samples: int) -> int:
    """The largest number of samples at `rate` whose model_length() is allowed."""
    return max_model_samples * rate // model_rate


def loop_length(samples: int, own_rate: int, model_rate: int, hop: int) -> int:
    """Samples at `model_rate` of a loop of `samples` at `own_rate`: whole frames of `hop`, at least
    one."""
    frames = (2 * samples * model_rate + own_rate * hop) // (2 * own_rate * hop)
    return max(1, frames) * hop
