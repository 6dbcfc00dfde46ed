"""flower_mobilenetv2_best.py with crops of ImageNet's range, from 8 % of the photo."""

_base_ = '../flower_mobilenetv2_best.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
