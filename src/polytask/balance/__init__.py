"""Loss balance: the weights of the T losses. Open: a member is a file here."""
