"""The old service's Socket.IO events, from one gateway or from several."""
