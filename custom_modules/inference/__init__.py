"""Predictors, export to ONNX, and the web page."""
