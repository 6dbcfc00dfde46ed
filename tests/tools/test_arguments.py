"""Impossible arguments, and those that exclude each other: exit code 2, the usage and a line that says why."""

import pytest


@pytest.mark.parametrize(
    ('command', 'said'),
    [
        ('compare a.csv run', 'only one table'),
        ('compare a.csv --out c.png', '--out c.png: a table has no curves'),
        ('cross_validate a.py --out a.json', 'the name must end in .csv'),
        ('cross_validate a.py --cfg-options randomness.seed=3', 'randomness.seed=3: set for each run'),
        ('cross_validate a.py --cfg-options val_dataloader.dataset.ann_file=a', 'set for each run'),
        ('export_onnx best.pth --int8', '--int8: needs --data-root'),
        ('fetch_weights', 'mobilenet_v2'),
        ('fetch_weights vgg16', 'mobilenet_v2'),
        ('find_label_issues', 'required: DATA'),
        ('find_label_issues data --top -1', '--top'),
        ('find_label_issues data --seed -1', '--seed'),
        ('predict photos --checkpoint best.pth --workers -1', '--workers -1: must be 0 or more'),
        ('test a.py best.onnx --amp', '--amp'),
        ('train a.py --demo --data-root data', 'leave out --data-root'),
        ('train a.py --seeds 1 2 --dry-run', 'averages the scores, which --dry-run does not give'),
        ('train a.py --seeds 1 2 --no-validate', 'averages the scores, which --no-validate does not give'),
        ('train a.py --probe --demo', 'leave out --demo'),
        ('train a.py --probe --resume', 'leave out --resume'),
        ('train a.py --probe --no-validate', 'leave out --no-validate'),
        ('train a.py --probe --dry-run', 'leave out --dry-run'),
        ('train a.py --probe --save-every-minutes=0', 'leave out --save-every-minutes'),
        ('web_demo best.onnx --min-score 2', '--min-score 2.0: must be between 0 and 1'),
        ('web_demo best.onnx --port 70000', '--port 70000: must be between 0 and 65535'),
        ('web_demo best.onnx --config a.py', '--config: has no meaning'),
    ],
)
def test_unusable_arguments_are_refused_with_the_usage(call, capfd, command, said):
    with pytest.raises(SystemExit, match='2'):
        call(*command.split())
    error = capfd.readouterr().err
    assert error.startswith('usage: ')
    assert said in error.partition('error: ')[2]
