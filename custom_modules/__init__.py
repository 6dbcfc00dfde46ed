"""An MMPretrain extension: datasets, checks, hooks, evaluation and export of image classifiers.

Configs import ``custom_modules.register``.
"""

__version__ = '2.5.0'
