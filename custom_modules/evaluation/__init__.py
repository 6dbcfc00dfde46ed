"""Test, report, cross-validation, comparison of runs, and label issues."""
