"""Edits through the client: their queue, their course and what runs behind a request."""
