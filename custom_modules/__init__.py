"""The extension package; importing it costs nothing. Registered modules: configs/_base_/default_runtime.py."""

__version__ = '2.3.3'
