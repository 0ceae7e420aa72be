"""Socket.IO packets without binary attachments."""

from __future__ import annotations

import socketio


class TextPacket(socketio.packet.Packet):  # type: ignore[misc]  # published without types
    """Refuses attachments: one event could have any number of them, each as large as a message may
    be. Audio travels in base64; a binary event is read with its placeholders."""

    packet_type: int

    def decode(self, encoded_packet: str | bytes) -> int:
        if not isinstance(encoded_packet, str):
            raise ValueError("binary attachments are not allowed")
        super().decode(encoded_packet)
        if self.packet_type in (socketio.packet.BINARY_EVENT, socketio.packet.BINARY_ACK):
            self.packet_type = socketio.packet.EVENT
        return 0
