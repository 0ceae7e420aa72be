"""Commands beside the service: weights fetched, converted and made; the model checked and timed."""
