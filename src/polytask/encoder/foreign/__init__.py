"""Other people's checkpoints: where they come from, what their tensors and settings are called."""
