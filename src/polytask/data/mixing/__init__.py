"""Mixing policies: which task's batch comes at which step. Open: a member is a file here."""
