"""Pair features: what a bi-encoder's head sees of two text vectors u and v. Open: a member is a class here."""
