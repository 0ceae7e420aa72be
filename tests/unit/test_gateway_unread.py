"""What Socket.IO's clients leave unread comes from the budget, and goes back to it."""

import asyncio
import gc

import engineio
from prometheus_client import Gauge

from melodyflow_gateway.budget import Budget
from melodyflow_gateway.decoding import Decoding
from melodyflow_gateway.socketio.unread import BoundedServer


def packet(size: int) -> engineio.packet.Packet:
    return engineio.packet.Packet(engineio.packet.MESSAGE, data="x" * size)


def server_and_budget(most_unread: int) -> tuple[BoundedServer, Budget]:
    budget = Budget(2**20, Gauge("taken", "", registry=None))
    options = {"most_unread": most_unread, "budget": budget, "decoding": Decoding()}
    return BoundedServer(**options, async_mode="asgi"), budget


def connect(server: BoundedServer, sid: str) -> engineio.async_socket.AsyncSocket:
    server.eio.sockets[sid] = engineio.async_socket.AsyncSocket(server.eio, sid)
    return server.eio.sockets[sid]


def test_what_is_read_is_given_back() -> None:
    async def run() -> None:
        server, budget = server_and_budget(1000)
        socket = connect(server, "a")
        await server._send_eio_packet("a", packet(100))
        await server._send_eio_packet("a", packet(200))
        assert budget.taken == 2 * 300
        await socket.send(engineio.packet.Packet(engineio.packet.PING))
        assert len(await socket.poll()) == 3
        assert budget.taken == 0

    asyncio.run(run())


def test_beyond_the_bound_the_connection_ends_and_holds_nothing() -> None:
    async def run() -> None:
        server, budget = server_and_budget(1000)
        socket = connect(server, "a")
        await server._send_eio_packet("a", packet(5000))  # one is taken, however large
        assert not socket.closed
        await server._send_eio_packet("a", packet(1))
        assert socket.closed
        assert budget.taken == 0
        assert "a" not in server.eio.sockets
        assert await socket.poll() == []
        await server._send_eio_packet("a", packet(1))  # too late, and no error

    asyncio.run(run())


def test_a_connection_ends_where_the_budget_is_spent() -> None:
    async def run() -> None:
        server, budget = server_and_budget(2**30)
        socket = connect(server, "a")
        for _ in range(5):
            await server._send_eio_packet("a", packet(2**16))
        assert socket.closed
        assert budget.taken == 0

    asyncio.run(run())


def test_a_connection_that_ends_leaves_nothing_behind() -> None:
    async def run() -> Budget:
        server, budget = server_and_budget(1000)
        connect(server, "a")
        await server._send_eio_packet("a", packet(500))
        assert budget.taken == 1000
        del server.eio.sockets["a"]
        gc.collect()
        return budget

    assert asyncio.run(run()).taken == 0
