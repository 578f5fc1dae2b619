"""Poolings: one vector for each text, from the vectors of its tokens. Open: a member is a file here."""
