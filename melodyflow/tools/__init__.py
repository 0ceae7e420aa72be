"""Command-line tools: fetch, convert and make weights; check and time the model."""
