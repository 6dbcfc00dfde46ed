"""MMEngine hooks, one per file."""
