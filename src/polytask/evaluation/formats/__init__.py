"""File formats of predictions. Open: a member is a file here."""
