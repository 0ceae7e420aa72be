"""What every request passes before any of it is read: small ASGI middlewares, one job each.

app.py lists them in their order. They refuse a request by raising Problem, which `refusals.py`
turns into an answer, for HTTP and WebSocket alike.
"""
