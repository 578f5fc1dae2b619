"""Inference: a run folder's model at work."""
