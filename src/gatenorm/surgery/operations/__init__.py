"""What can take a sublayer's place: one operation per file, found by its file name; other packages can add theirs."""
