"""Measures speed: ``python tools/benchmark.py configs/flower_mobilenetv2.py --out work_dirs/benchmark``."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.benchmarks.plan import PARTS, Plan, measure
from custom_modules.errors import run_tool


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to measure, how often, and on what; the names are those of :class:`Plan`."""
    parser = argparse.ArgumentParser(
        description='Measure loading, training, inference, start-up and the time to a score, beside stock MMPretrain.',
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='trainings, e.g. configs/flower_mobilenetv2.py')
    parser.add_argument('--out', metavar='DIR', help='a new folder (default: work_dirs/benchmark)')
    parser.add_argument('--only', nargs='+', choices=PARTS, dest='parts', help='some of the parts')
    parser.add_argument('--sizes', nargs='+', type=int, metavar='N', help="image sizes (default: each config's)")
    parser.add_argument('--rounds', type=int, metavar='N', help='samples of each speed (default: 7)')

    group = parser.add_argument_group('training')
    group.add_argument('--iterations', type=int, metavar='N', help='steps of a sample (default: 7)')
    group.add_argument('--warm-up', type=int, metavar='N', help='steps before the first sample (default: 4)')
    group.add_argument('--batch-size', type=int, metavar='N', help="(default: each config's)")
    group.add_argument('--workers', type=int, metavar='N', help='processes that load meanwhile (default: 0)')

    group = parser.add_argument_group('loader, inference')
    group.add_argument('--photos', type=int, metavar='N', help='of a sample, where photos are read (default: 512)')
    group.add_argument('--seconds', type=float, metavar='S', help='of a sample of the model alone (default: 3)')
    group.add_argument('--batches', nargs='+', type=int, metavar='N', help='batch sizes (default: 1 32)')

    group = parser.add_argument_group('time-to')
    group.add_argument(
        '--time-to-configs', nargs='+', metavar='CONFIG', help='trainings to take the time of (default: all)'
    )
    group.add_argument('--levels', nargs='+', type=float, metavar='P', help='top-1 in percent (default: 90 93 95)')
    group.add_argument('--seeds', nargs='+', type=int, metavar='SEED', help='one run each (default: 0)')
    group.add_argument('--to-end', action='store_true', help='train on after the highest level')

    group = parser.add_argument_group('all')
    group.add_argument('--device', choices=['cpu', 'cuda'], help='(default: the one that trainings would use)')
    group.add_argument('--threads', type=int, metavar='N', help="of a computing process (default: torch's choice)")
    group.add_argument('--data-root', metavar='DIR', help='the prepared dataset')
    group.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', dest='options', help='override settings')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measures, shows the tables and writes everything; returns 1 if a part failed."""
    options = vars(parse_args(argv))
    plan = Plan(**{**options, 'out': Path(options.get('out', 'work_dirs/benchmark'))})
    began = time.monotonic()

    from custom_modules.benchmarks.report import as_markdown, write_report

    def tell(line: str) -> None:
        print(f'[{time.monotonic() - began:6.0f} s] {line}', flush=True)

    command = ['python', 'tools/benchmark.py', *(sys.argv[1:] if argv is None else argv)]
    results = measure(plan, command, tell, lambda found: write_report(plan.out, found))
    print(f'\n{as_markdown(results)}\nwritten     {plan.out}')
    return 1 if results['failed'] else 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
