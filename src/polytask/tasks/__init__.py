"""Tasks: the record of a task's choices, the kinds of label there are, and presets of well-known tasks."""
