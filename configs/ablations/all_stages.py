"""flower_mobilenetv2_best.py with all stages trained."""

_base_ = '../flower_mobilenetv2_best.py'

model = dict(backbone=dict(frozen_stages=-1))
