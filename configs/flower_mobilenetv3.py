"""MobileNetV3-Large from ImageNet weights: what report 1 recommends next. Not measured here yet.

python tools/fetch_weights.py mobilenet_v3_large
python tools/train.py configs/flower_mobilenetv3.py
"""

_base_ = [
    '_base_/flower_dataset.py',
    '_base_/default_runtime.py',
    'mmpretrain::_base_/models/mobilenet_v3/mobilenet_v3_large_imagenet.py',
    'mmpretrain::_base_/schedules/imagenet_bs256_epochstep.py',  # x 0.98 an epoch
]

model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenet_v3_large.pth', prefix='backbone')
    ),
    head=dict(num_classes={{_base_.num_classes}}, topk=(1,), cal_acc=True),
)

optim_wrapper = dict(optimizer=dict(lr=0.001))
train_cfg = dict(max_epochs=20)
auto_scale_lr = dict(base_batch_size=32)
