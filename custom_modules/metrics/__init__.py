"""Predictions, confidence intervals, confusion matrix, calibration, and their plots."""
