"""Metrics: what predictions score. Open: a member is a class in a file here, which also holds its plain function."""
