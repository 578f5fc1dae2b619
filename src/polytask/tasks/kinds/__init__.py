"""Kinds of task: what a label is, its loss, its metrics, its divergence. Open: a member is a file here."""
