"""Registered transforms, and reduced decoding of JPEGs."""
