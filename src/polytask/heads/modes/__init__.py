"""How the two texts of a pair meet. Open: a mode is a file here."""
