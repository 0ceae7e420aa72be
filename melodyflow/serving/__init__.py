"""Between Triton and the engine: request tensors -> edits, events -> responses, metrics."""
