"""What the data shelf loads: a file for each kind of source."""
