"""The gateway: the old service's API, server-sent events and a page, in front of Triton.

`melodyflow gateway` runs it. It holds no model: every edit goes through the asynchronous client of
melodyflow-client. docs/gateway.md is for operators.
"""
