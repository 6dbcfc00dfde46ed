"""The five-flower dataset as tools/split_dataset.py prepares it: pipelines, loaders, metrics.

Your own folders: ``--data-root DIR``. The numbers of classes follow its classes.txt.
"""

data_root = 'data/flowers'
num_classes = 5

data_preprocessor = dict(
    num_classes=num_classes,
    mean=[123.675, 116.28, 103.53],  # ImageNet's, RGB, in 0-255 units
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='FlowerDataset', data_root=data_root, ann_file='train.txt', data_prefix='train', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='FlowerDataset', data_root=data_root, ann_file='val.txt', data_prefix='val', pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader

# Top-1 alone: top-5 of five classes is always 100 %. MeanNLL is the validation loss, which MMPretrain lacks.
val_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='MeanNLL')]
test_evaluator = val_evaluator
