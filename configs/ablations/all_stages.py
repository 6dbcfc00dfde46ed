"""flower_mobilenetv2_best.py with all stages trained, batch norm in training mode."""

_base_ = '../flower_mobilenetv2_best.py'

model = dict(backbone=dict(frozen_stages=-1, norm_eval=False))
