"""How audio is refused."""


class AudioError(ValueError):
    """Audio or a parameter of it is refused: the input's name, the value, what is allowed."""


def show(text: bytes) -> str:
    """Bytes from a client, safe to put into a message."""
    return repr(text.decode("latin-1"))
