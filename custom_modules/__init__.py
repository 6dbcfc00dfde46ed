"""The package of this project; importing it costs nothing. Configs import custom_modules.register."""

__version__ = '2.4.0'
