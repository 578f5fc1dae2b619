"""Tables as people have them -> rows of texts and labels, every problem named by file, row and column."""
