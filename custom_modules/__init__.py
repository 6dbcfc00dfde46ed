"""The extension package; importing it costs nothing. Registered modules: configs/_base_/default_runtime.py."""
