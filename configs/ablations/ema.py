"""flower_mobilenetv2_best.py with averaged weights, as in the fast recipe."""

_base_ = '../flower_mobilenetv2_best.py'

default_hooks = dict(ema=dict(_delete_=True, type='EMAHook', momentum=0.02))
