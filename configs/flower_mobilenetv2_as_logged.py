"""A lesson: report 1's run as its own log shows it, with the learning rate of ImageNet training from scratch.

The report says lr 0.001; its log says 0.045, x 0.98 an epoch, batch 32: the override used keys that its version
ignored, and the base config's values stayed. It reported 59.6 % top-1.

    python tools/train.py configs/flower_mobilenetv2_as_logged.py

Measured once, seed 0, 5 epochs, 457 validation photos: top-1 61.27 % (280/457) at its best epoch, 51.42 % at its last.
"""

_base_ = 'flower_mobilenetv2.py'

train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=0.045))
auto_scale_lr = dict(base_batch_size=32)
