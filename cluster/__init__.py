"""Where a search runs, and the command that people type."""
