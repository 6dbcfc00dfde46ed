"""ResNet18 with Adam: report 1, experiment 2 (Adam lr 0.001, five augmentations).

python tools/fetch_weights.py resnet18
python tools/train.py configs/flower_resnet18_adam.py

Measured on 457 validation photos from PARTLY pretrained weights, so no measure of the model, seed 0: top-1 91.03 %
(416/457), best epoch (9) and last (14, where it stopped early) alike.
"""

_base_ = 'flower_resnet18.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='RandomCrop', crop_size=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='RandomRotateTranslate', degrees=15.0, translate=0.0),
    dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=0.001))
