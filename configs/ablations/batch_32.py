"""flower_mobilenetv2_best.py with batches of 32 photos."""

_base_ = '../flower_mobilenetv2_best.py'

train_dataloader = dict(batch_size=32)
