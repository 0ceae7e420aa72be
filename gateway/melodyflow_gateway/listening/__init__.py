"""Connections: how many there may be, how long they may wait, how slowly they may move."""
