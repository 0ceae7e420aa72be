"""What a request passes first: host, origin, token, size and rate."""
