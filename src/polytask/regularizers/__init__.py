"""Regularizers: penalties added to a task's loss. Open: a member is a file here."""
