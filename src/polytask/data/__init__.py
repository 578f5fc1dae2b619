"""Tables: where they come from, what is wrong with them, their tokens, their batches, and how tasks are mixed."""
