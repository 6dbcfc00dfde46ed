"""Runs every tool on a model of every backbone, from random weights on drawn flowers, and writes docs/backbones.md.

python docs/backbones.py
"""

import argparse
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool
from custom_modules.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]

CONFIGS = (
    *('flower_mobilenetv2', 'flower_resnet18', 'flower_resnet50', 'flower_mobilenetv3', 'flower_mobilenetv3_small'),
    *('flower_efficientnet_b0', 'flower_convnext_v2_atto', 'flower_deit_tiny', 'flower_swin_tiny', 'flower_timm'),
    'three_lines',
)
SMALL = (
    *('model.backbone.init_cfg=None', 'param_scheduler=[]', 'train_dataloader.batch_size=8'),
    *(f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')),
)
PATTERN = """_base_ = [
    '_base_/flower_dataset.py',
    '_base_/default_runtime.py',
    '_base_/finetune.py',
    'mmpretrain::_base_/models/shufflenet_v2_1x.py',
]
model = dict(backbone=dict(init_cfg=None), head=dict(num_classes={{_base_.num_classes}}, topk=(1,)))
"""
HEADER = """# Backbones

Any backbone of MMPretrain: name its base config and its head in a new file in `configs/` (`three_lines` below).

```python
{pattern}```

Pretrained weights: `init_cfg=dict(type='Pretrained', checkpoint='FILE.pth', prefix='backbone')`. The shipped configs
name files that [tools/fetch_weights.py](../checkpoints/README.md) provides. A base config of MMPretrain may also set
`train_cfg` (Mixup, CutMix): `train_cfg=None` in `model` leaves that out. Models of timm:
[flower_timm.py](../configs/flower_timm.py).

## Every tool on every backbone

One epoch on 40 drawn flowers from random weights, then each tool on the result. A cell is what the command ended
with: ✓ is exit code 0. 8 bits end with exit code 1 where they lose over 1 point of top-1, here 1 of the 10 validation
photos. Written by `python docs/backbones.py` on {date} with torch {torch}, mmpretrain {mmpretrain} and onnxruntime
{onnxruntime}.

"""


def commands(config: str, folder: Path) -> dict[str, list]:
    """The command of each column, for a config's name."""
    path = ROOT / f'configs/{config}.py'
    if config == 'three_lines':
        path = folder / f'{config}.py'
        path.write_text(PATTERN.replace("'_base_/", f"'{ROOT}/configs/_base_/"))
    run, data = folder / config, folder / 'data'
    best, saved = run / 'best.pth', run / f'{config}.py'
    options = ['--cfg-options', *SMALL, *['model.backbone.pretrained=False'] * (config == 'flower_timm')]
    train = ['train', path, '--data-root', data]
    return {
        'train': [*train, '--work-dir', run, *options, 'train_cfg.max_epochs=1'],
        'probe': [*train, '--work-dir', folder / f'{config}_probe', '--probe', *options],
        'resume': [*train, '--work-dir', run, '--resume', *options, 'train_cfg.max_epochs=2'],
        'test, CAM': ['test', saved, best, '--report'],
        'predict': ['predict', folder / 'raw/rose', '--checkpoint', best],
        'export': ['export_onnx', best, '--data-root', data],
        '8 bits': ['export_onnx', best, '--int8', '--data-root', data, '--overwrite'],
        'publish': ['publish', best, '--out', folder / f'{config}_published'],
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the matrix, prints each cell and writes the page; 1 if a command failed."""
    parser = argparse.ArgumentParser(description='Run every tool on every backbone.')
    parser.add_argument('--configs', nargs='+', default=CONFIGS, metavar='NAME', help='default: all')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/backbones'), metavar='DIR')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/backbones.md', metavar='FILE')
    args = parser.parse_args(argv)
    from custom_modules.datasets.demo_flowers import draw_demo_flowers
    from custom_modules.datasets.splitting import split_dataset

    folder = args.work_dir.resolve()
    draw_demo_flowers(folder / 'raw', per_class=10, size=64)
    split_dataset(folder / 'raw', folder / 'data')
    table: dict[str, dict[str, str]] = {}
    for config in args.configs:
        table[config] = {}
        for name, (tool, *arguments) in commands(config, folder).items():
            command = [sys.executable, ROOT / f'tools/{tool}.py', *arguments]
            with (folder / f'{config}.{name.replace(", ", "_")}.log').open('w') as log:
                code = subprocess.run(list(map(str, command)), stdout=log, stderr=log).returncode
            table[config][name] = '✓' if code == 0 else f'exit code {code}'
            print(f'{config}: {name}: {table[config][name]}', flush=True)
    rows = [
        ['config', *next(iter(table.values()))],
        ['---'] * 9,
        *([name, *row.values()] for name, row in table.items()),
    ]
    versions = {name: version(name) for name in ('torch', 'mmpretrain', 'onnxruntime')}
    page = HEADER.format(pattern=PATTERN, date=date.today(), **versions) + ''.join(
        f'| {" | ".join(row)} |\n' for row in rows
    )
    args.out.parent.mkdir(exist_ok=True)
    write_atomically(args.out, lambda file: file.write(page.encode()))
    return 0 if all(cell == '✓' for row in table.values() for cell in row.values()) else 1


if __name__ == '__main__':
    sys.exit(run_tool(main))
