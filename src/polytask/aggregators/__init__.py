"""Aggregators: T encoder gradients become one. Open: a member is a file here."""
