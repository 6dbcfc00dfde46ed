"""What ``tools/train.py --demo`` lays over any config: drawn flowers, small images, a short schedule from scratch."""

data_root = 'data/demo_flowers'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.6, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=64, edge='short'),
    dict(type='CenterCrop', crop_size=64),
    dict(type='PackInputs'),
]

train_dataloader = dict(batch_size=32, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(_delete_=True, optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01))
param_scheduler = dict(
    _delete_=True, type='OneCycleLR', eta_max=3e-3, total_steps=25, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(max_epochs=25)
auto_scale_lr = dict(base_batch_size=32)
