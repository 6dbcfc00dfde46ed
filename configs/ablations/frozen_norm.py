"""flower_mobilenetv2_best.py with what the fast recipe freezes: two more stages, and batch norm's statistics."""

_base_ = '../flower_mobilenetv2_best.py'

model = dict(backbone=dict(frozen_stages=4, norm_eval=True))
