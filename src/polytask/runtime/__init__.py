"""Device, precision, seeds from keys, process group, files written aside, run folder and journal."""
