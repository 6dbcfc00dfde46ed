"""Opens, decodes, lists and fingerprints image files."""
