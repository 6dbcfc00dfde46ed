"""MobileNetV2 from ImageNet weights: report 1, experiment 1, as written (lr 0.001, batch 8, 20 epochs).

python tools/fetch_weights.py mobilenet_v2
python tools/train.py configs/flower_mobilenetv2.py

Measured once, seed 0, 457 validation photos: top-1 96.94 % (443/457) at its best epoch, 96.28 % (440/457) at its last.
"""

_base_ = [
    '_base_/flower_dataset.py',
    '_base_/default_runtime.py',
    'mmpretrain::_base_/models/mobilenet_v2_1x.py',
    'mmpretrain::_base_/schedules/imagenet_bs256_epochstep.py',  # x 0.98 an epoch
]

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenet_v2.pth', prefix='backbone')),
    head=dict(num_classes={{_base_.num_classes}}, topk=(1,), cal_acc=True),
)

train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=0.001))
train_cfg = dict(max_epochs=20)
auto_scale_lr = dict(base_batch_size=8)
