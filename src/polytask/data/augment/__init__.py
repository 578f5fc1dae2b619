"""Augmentations: changed copies of training texts. Open: a member is a file here."""
