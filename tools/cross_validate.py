"""Compares recipes within the training photos: ``python tools/cross_validate.py configs/a.py configs/b.py``.

Each config is trained on each fold, and the weights of its last epoch are asked about the photos that the fold leaves
out. A table that was stopped or killed goes on when started again; what is finished is not trained anew. The logs are
in the runs' own work dirs. Exit codes: 0 done, 1 done but some runs failed, 2 unusable input or arguments.
"""

import argparse
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import run_tool


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to train, on what, and where the answers go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'configs', nargs='+', metavar='CONFIG', help='the recipes; the first is what others differ from'
    )
    parser.add_argument('--data-root', metavar='DIR', help='a dataset prepared with --folds')
    parser.add_argument('--folds', nargs='+', type=int, metavar='K', help='some of its folds (default: all)')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='SEED', help='default: 0')
    parser.add_argument(
        '--jobs',
        type=int,
        metavar='N',
        help='runs at a time; the cores are shared out (default: one a core as far as the memory reaches; on a GPU 1)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/cross_validation'),
        metavar='DIR',
        help='where each run has a folder, <config>/fold<k>_seed<s> (default: %(default)s)',
    )
    parser.add_argument(
        '--out', type=Path, metavar='FILE.csv', help='a row a photo, config and seed (default: answers.csv in there)'
    )
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='settings for all runs')
    args = parser.parse_args(argv)
    args.out = args.out or args.work_dir / 'answers.csv'
    if args.out.suffix != '.csv':
        parser.error(f'--out {args.out}: the name must end in .csv')
    set_here = ('randomness.seed', *(f'{side}_dataloader.dataset.ann_file' for side in ('train', 'val', 'test')))
    if named := [option for option in args.cfg_options if option.partition('=')[0] in set_here]:
        parser.error(f'--cfg-options {named[0]}: is set for each run, from --seeds and --folds')
    if args.jobs is not None and args.jobs < 1:
        parser.error(f'--jobs {args.jobs}: one or more')
    return args


def main(argv: list[str] | None = None) -> int:
    """Makes the runs that are not finished, and writes the table after each."""
    args = parse_args(argv)

    from custom_modules.engine.stop_signals import Stopped
    from custom_modules.evaluation.cross_validation import check_table, write_table
    from custom_modules.evaluation.fold_runs import FoldRun, parallel_runs, plan_runs, run_all
    from custom_modules.files import check_folder, lock_folder
    from custom_modules.metrics.calibration import mean_nll
    from custom_modules.metrics.predictions import Proportion

    check_folder(args.work_dir)
    check_folder(args.out.parent)
    runs = plan_runs(args.configs, args.folds, args.seeds, args.work_dir, args.data_root, args.cfg_options)
    check_table(args.out, {(run.name, run.seed, run.fold): run.photos for run in runs})
    lock = lock_folder(args.work_dir)  # noqa: F841  held until it is closed by going out of scope
    answers = {run.work_dir: rows for run in runs if (rows := run.answers()) is not None}
    order = {run.name: number for number, run in reversed(list(enumerate(runs)))}

    def write() -> None:
        done = sorted((run for run in runs if run.work_dir in answers), key=lambda r: (order[r.name], r.seed, r.fold))
        write_table(args.out, (row for run in done for row in answers[run.work_dir]), runs[0].classes)

    def finished(run: FoldRun, rows: list[dict[str, str]], seconds: float) -> None:
        answers[run.work_dir] = rows
        write()
        right = Proportion(sum(row['label'] == row['truth'] for row in rows), len(rows))
        scores = [[float(row[f'score_{name}']) for name in run.classes] for row in rows]
        loss = mean_nll(scores, [run.classes.index(row['truth']) for row in rows])
        print(
            f'{len(answers)}/{len(runs)}  {run}  top-1 {right.percent:.2f} % ({right.k}/{right.n})  NLL {loss:.4f}  '
            f'{seconds / 60:.1f} min',
            flush=True,
        )

    jobs, threads = parallel_runs(args.jobs)
    print(
        f'{len(runs)} runs: {len({run.name for run in runs})} configs, {len({run.fold for run in runs})} folds, '
        f'{len(args.seeds)} seeds; {len(answers)} finished already; {jobs} at a time, threads each: {threads}',
        flush=True,
    )
    if answers:
        write()
    try:
        failed = run_all([run for run in runs if run.work_dir not in answers], jobs, threads, finished)
    except Stopped as stop:
        print(f'{stop}\ngo on with the same command')
        return stop.exit_code
    if failed:
        print(f'{len(failed)} of {len(runs)} runs failed, named above')
    if answers:
        print(f'written     {args.out}\nnext: python tools/compare.py {shlex.quote(str(args.out))}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
