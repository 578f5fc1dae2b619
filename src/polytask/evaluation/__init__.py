"""Evaluation: a model's predictions for a table, what they score, and the one number that checkpoints are judged by."""
