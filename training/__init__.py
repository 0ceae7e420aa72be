"""Trains the demo checkpoint: data, codec, text, flow, judge, evaluation."""
