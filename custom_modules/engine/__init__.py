"""Config validation, preflight checks, training and resume."""
