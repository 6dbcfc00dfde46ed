"""flower_mobilenetv2_best.py without averaged weights."""

_base_ = '../flower_mobilenetv2_best.py'

default_hooks = dict(ema=None)
