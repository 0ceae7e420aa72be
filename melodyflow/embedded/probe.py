"""Checks whether a tritonserver's front ends answer, using only the standard library."""

import http.client
import socket
import struct
import time

HOST = "127.0.0.1"

# HTTP/2 (RFC 9113): frame types and flags.
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4

# No model has this name, so Triton answers at once, without any model's queue.
NO_MODEL = b"no-model"


def answers_http(port: int, path: str, timeout: float) -> bool:
    """Whether a GET is answered with 200 within `timeout` seconds."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def answers_stream(port: int, timeout: float) -> bool:
    """Whether a ModelStreamInfer call is answered and ended within `timeout` seconds.

    It asks for a model that doesn't exist. Triton 2.51's streams can hang while HTTP and other gRPC
    calls still work. Needs an unencrypted port.
    """
    until = time.monotonic() + timeout
    message = b"\x0a" + bytes([len(NO_MODEL)]) + NO_MODEL  # ModelInferRequest { model_name }
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/inference.GRPCInferenceService/ModelStreamInfer",
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    # HPACK (RFC 7541, 6.2.2): literals without indexing, which need no table.
    block = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in fields.items()
    )
    request = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(SETTINGS, 0, 0, b"")
        + _frame(HEADERS, END_HEADERS, 1, block)
        + _frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message)
    )
    try:
        with socket.create_connection((HOST, port), timeout) as connection:
            connection.sendall(request)
            while True:
                head = _read(connection, 9, until)
                length, kind = int.from_bytes(head[:3], "big"), head[3]
                flags, stream = head[4], int.from_bytes(head[5:], "big")
                _read(connection, length, until)
                if stream == 1 and kind in (DATA, HEADERS) and flags & END_STREAM:
                    return True
    except OSError:
        return False


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _read(connection: socket.socket, size: int, until: float) -> bytes:
    """Raises OSError if the connection closes or the time runs out first."""
    found = b""
    while len(found) < size:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        piece = connection.recv(size - len(found))
        if not piece:
            raise ConnectionError("closed")
        found += piece
    return found
