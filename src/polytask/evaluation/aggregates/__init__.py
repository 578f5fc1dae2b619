"""Aggregates: the one number of several tasks' scores. Open: a member is a file here."""
