"""flower_mobilenetv2_best.py with batch norm in training mode in the stages that are trained."""

_base_ = '../flower_mobilenetv2_best.py'

model = dict(backbone=dict(norm_eval=False))
