"""ResNet18 from ImageNet weights: report 2 (SGD, StepLR, 15 epochs, early stopping, five augmentations).

python tools/fetch_weights.py resnet18
python tools/train.py configs/flower_resnet18.py

Measured once, seed 0, from PARTLY pretrained weights, so no measure of the model: top-1 83.15 % (380/457 validation
photos) at its best epoch, stopped early after epoch 9.
"""

_base_ = [
    '_base_/flower_dataset.py',
    '_base_/default_runtime.py',
    'mmpretrain::_base_/models/resnet18.py',
]

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/resnet18.pth', prefix='backbone')),
    head=dict(num_classes={{_base_.num_classes}}, topk=(1,), cal_acc=True),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomRotateTranslate', degrees=15.0, translate=0.1),
    dict(type='ColorJitter', brightness=0.2, contrast=0.2),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.001, momentum=0.9))
param_scheduler = dict(type='StepLR', by_epoch=True, step_size=7, gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=15, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=32)

default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=-1),  # report 2 keeps the weights of every epoch
    early_stopping=dict(type='ResumableEarlyStoppingHook', monitor='accuracy/top1', patience=5),
)
