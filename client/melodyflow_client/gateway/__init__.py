"""The gateway: the old service's API, server-sent events and a page, in front of Triton.

`melodyflow gateway` runs it; it needs the extra `melodyflow-client[gateway]`. It holds no model:
every edit goes through the package's own asynchronous client. docs/gateway.md is for operators.
"""
