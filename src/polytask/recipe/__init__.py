"""Recipes: the only place where names become objects."""
