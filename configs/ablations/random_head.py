"""flower_mobilenetv2_best.py without the linear probe: the head starts at random."""

_base_ = '../flower_mobilenetv2_best.py'

default_hooks = dict(linear_probe=None)
