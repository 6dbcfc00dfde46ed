"""Tests a checkpoint: ``python tools/test.py configs/flower_mobilenetv2.py work_dirs/flower_mobilenetv2/best.pth``."""

import argparse
import json
import os
import sys
import time
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool
from custom_modules.inference.open_predictor import is_exported
from custom_modules.metrics.predictions import SUFFIXES


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Upstream's flags and ``--data-root``."""
    parser = argparse.ArgumentParser(description='Test a flower classifier: top-1 accuracy and error, per class.')
    parser.add_argument('config', help='the config it was trained with')
    parser.add_argument('checkpoint', help='its weights, e.g. work_dirs/flower_mobilenetv2/best.pth, or an .onnx')
    parser.add_argument('--data-root', metavar='DIR', help='the prepared dataset; its val.txt is tested')
    parser.add_argument(
        '--work-dir',
        metavar='DIR',
        help='where metrics.json goes; default: beside the checkpoint',
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='write one row a photo, as .csv, .json or .jsonl')
    parser.add_argument(
        '--report',
        action='store_true',
        help='also write report/: figures, a model card and a page with every wrong photo',
    )
    parser.add_argument('--robustness', action='store_true', help='also test the photos darker, blurred, rotated, …')
    parser.add_argument('--ood', metavar='DIR', help='also score photos of none of the classes, at any depth in DIR')
    parser.add_argument('--tta', action='store_true', help='average the scores of each photo and its mirror image')
    parser.add_argument('--amp', action='store_true', help='half precision (needs an accelerator)')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='override settings of the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.out and args.out.suffix not in SUFFIXES:
        parser.error(f'--out {args.out}: the name must end in {", ".join(SUFFIXES)}')
    if is_exported(args.checkpoint) and (args.amp or args.launcher != 'none'):
        parser.error(
            '--amp, --launcher: mean nothing to an .onnx model, which one process computes as it was exported'
        )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main(argv: list[str] | None = None) -> int:
    """Tests, prints the figures and writes them."""
    args = parse_args(argv)

    from mmengine.dist import is_main_process
    from mmpretrain.registry import DATASETS

    from custom_modules.datasets.manifest import read_manifest_digest
    from custom_modules.engine.run import prepare_run
    from custom_modules.engine.run_config import average_flips, keep_test_only, parse_options, read_config
    from custom_modules.engine.runner import TerseRunner, has_accelerator, place
    from custom_modules.evaluation import out_of_distribution, robustness
    from custom_modules.evaluation.model_card import card_of
    from custom_modules.evaluation.report import Evaluation, check_extras, write_report
    from custom_modules.evaluation.results import ECE, figures, format_scaling, results_warning, set_aside
    from custom_modules.files import check_folder, printable, write_atomically
    from custom_modules.metrics.predictions import columns, count, format_counts, row, write_rows
    from custom_modules.metrics.predictions_metric import PredictionsMetric
    from custom_modules.models.checkpoints import checkpoint_classes, load_checkpoint, weights_digest

    model, exported = Path(args.checkpoint), is_exported(args.checkpoint)
    # What is found of an exported model does not take the place of what was found of its checkpoint.
    work_dir = Path(args.work_dir or (model.with_name(f'{model.stem}_onnx') if exported else model.parent))
    if args.report:
        check_extras()
        check_folder(work_dir / 'report')
    cfg = read_config(args.config, parse_options(args.cfg_options), args.data_root, str(work_dir))
    if args.out:
        check_folder(args.out.parent)
        if args.out.is_dir():
            raise InputError(f'--out {args.out}: is a folder; name a file')
        if os.path.lexists(args.out):
            raise InputError(f'--out {args.out}: exists already; name another file, or delete it')
    if exported:
        from custom_modules.models.onnx_classifier import read_exported, use_exported

        checkpoint = read_exported(args.checkpoint, cfg)
    else:
        checkpoint = load_checkpoint(args.checkpoint)
    classes = checkpoint_classes(checkpoint, args.checkpoint)
    place(cfg, args.launcher)
    data_root = cfg.test_dataloader.dataset.data_root
    others, unreadable = out_of_distribution.list_others(args.ood, Path(data_root)) if args.ood else ([], [])
    trained_list = ((cfg.get('train_dataloader') or {}).get('dataset') or {}).get('ann_file')
    keep_test_only(cfg, args.checkpoint)
    if exported:
        use_exported(cfg, args.checkpoint)
    plain_dataset = deepcopy(cfg.test_dataloader.dataset)
    if args.robustness:
        robustness.pictures(plain_dataset, 0)  # what cannot be changed is told before the test
    if args.tta:
        average_flips(cfg)
    if args.amp and has_accelerator():
        cfg.test_cfg.fp16 = True
    elif args.amp and is_main_process():
        print('--amp: no accelerator here, testing in full precision')

    runner = TerseRunner.from_run(prepare_run(cfg, ['test'], checkpoint))
    collector = PredictionsMetric()
    runner.test_evaluator.metrics.append(collector)
    metrics = runner.test()
    answers = robustness.answer(runner, cfg.test_dataloader, collector.predictions) if args.robustness else {}
    other_answers = out_of_distribution.answer(runner, cfg.test_dataloader, others) if others else []
    if not is_main_process():
        return 0

    counts = count(collector.predictions, classes)
    meta = checkpoint.get('meta') or {}
    result = {
        **figures(collector.predictions, counts),
        **{key: value for key, value in metrics.items() if not key.startswith('accuracy/')},
        'checkpoint': args.checkpoint,
        'weights': None if exported else weights_digest(checkpoint['state_dict']),
        'run': meta.get('run'),
        'epoch': meta.get('epoch'),
        'pretrained': meta.get('pretrained'),
        'dataset': read_manifest_digest(Path(data_root)),
        'trained_on': meta.get('dataset_digest'),
        'trained_list': trained_list,
        'tested': cfg.test_dataloader.dataset.ann_file,
        'tta': args.tta,
    }
    outcomes = robustness.outcomes(answers, classes)
    collapses = robustness.collapses(outcomes)
    if outcomes:
        result['robustness'] = {'conditions': [outcome.as_dict() for outcome in outcomes], 'collapses': collapses}
    if other_answers:
        told_apart = out_of_distribution.outcome(collector.predictions, other_answers, result['temperature_scaling'])
        result['ood'] = told_apart.as_dict(args.ood, len(unreadable))
    warning = results_warning(result)
    print()
    print(format_counts(counts, metrics.get('nll/mean'), result[ECE]))
    if result['temperature_scaling']:
        print(f'\n{format_scaling(result["temperature_scaling"])}')
    if outcomes:
        print(f'\n{robustness.format_outcomes(outcomes)}')
    if other_answers:
        print(f'\n{out_of_distribution.format_outcome(told_apart, args.ood)}')
    if meta.get('pretrained'):
        print(f'pretrained  {meta["pretrained"]}')
    print()
    file = work_dir / 'metrics.json'
    if kept := set_aside(file, result):
        print(f'kept        {kept}, the results of another test')
    write_atomically(file, lambda out: out.write(json.dumps(result, indent=1).encode()))
    print(f'written     {file}')
    if args.out:
        table = [row(prediction, classes) for prediction in collector.predictions]
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, lambda file: write_rows(file, table, columns(classes), args.out.suffix))
        print(f'written     {args.out}')
    if args.report:
        began = time.monotonic()
        folder = work_dir / 'report'
        tested = Evaluation(
            predictions=collector.predictions,
            classes=classes,
            counts=counts,
            results=result,
            checkpoint=Path(args.checkpoint),
            meta=meta,
            data_root=Path(data_root),
            model=runner.model,
            dataset=DATASETS.build(plain_dataset),
            warning=warning.capitalize(),
            card='' if exported else card_of(Path(args.checkpoint).name, checkpoint, result, Path(data_root)),
            examples=robustness.examples(plain_dataset, answers) if answers else [],
            others=other_answers,
        )
        if kept := write_report(folder, tested):
            print(f'kept        {kept}, the report of another test')
        print(f'written     {folder / "index.html"} ({time.monotonic() - began:.0f} s)')
    warnings = [*filter(None, [warning]), *collapses]
    for line in warnings:
        print(f'warning: {line}')
    for photo in unreadable:
        print(f'error: {printable(photo.path)}: {photo.problem}', file=sys.stderr)
    return 1 if warnings or unreadable else 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
