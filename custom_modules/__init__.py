"""The extension package; importing it costs nothing, the registered modules are named in configs/_base_/default_runtime.py."""
