"""The run folder, below all who read it: its lock, its index, its journal, its events, tensors on the disk."""
