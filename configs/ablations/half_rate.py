"""flower_mobilenetv2_best.py with half the learning rate."""

_base_ = '../flower_mobilenetv2_best.py'

optim_wrapper = dict(optimizer=dict(lr=1e-4))
