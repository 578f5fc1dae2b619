"""Heads: logits from a text's (or pair's) vector. Open: a member is a file here."""
