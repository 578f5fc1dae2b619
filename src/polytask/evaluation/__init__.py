"""Evaluation: a model's logits on a table, their scores, and the one number that checkpoints are judged by."""
