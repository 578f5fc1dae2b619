"""Namings: how a family of checkpoints spells what a BERT is made of. A naming is a file here."""
