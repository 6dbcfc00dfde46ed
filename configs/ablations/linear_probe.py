"""flower_mobilenetv2_best.py with a head that starts as the fast recipe's: fitted on the pretrained features."""

_base_ = '../flower_mobilenetv2_best.py'

default_hooks = dict(linear_probe=dict(_delete_=True, type='LinearProbeHook'))
