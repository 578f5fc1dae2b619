"""Encoders: texts in, vectors out. An architecture is a file here."""
