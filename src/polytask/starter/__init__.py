"""The first hour: a recipe guessed from tables, and the main job on tables that polytask makes itself."""
