"""flower_mobilenetv2_best.py with gradients of any norm."""

_base_ = '../flower_mobilenetv2_best.py'

optim_wrapper = dict(clip_grad=None)
