"""flower_mobilenetv2_best.py with twice the learning rate."""

_base_ = '../flower_mobilenetv2_best.py'

optim_wrapper = dict(optimizer=dict(lr=4e-4))
