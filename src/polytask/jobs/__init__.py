"""What a person asks for, from start to end: train, resume, dry run, the proof that a run survives being killed."""
