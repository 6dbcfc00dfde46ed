"""Shows a classifier in the browser: ``python tools/web_demo.py work_dirs/flower_mobilenetv2/best.pth``.

With a model of tools/export_onnx.py, ONNX Runtime, Pillow, NumPy and Gradio are all that it needs.
"""

import argparse
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool
from custom_modules.inference.open_predictor import is_exported, open_predictor
from custom_modules.metrics.predictions import SURE


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Which model, where it listens, and when it is unsure."""
    parser = argparse.ArgumentParser(description='Classify photos on a page in the browser, and by HTTP.')
    parser.add_argument(
        'model', help='e.g. work_dirs/flower_mobilenetv2/best.pth, or an .onnx of tools/export_onnx.py'
    )
    parser.add_argument('--config', help='the config it was trained with; default: the one in the checkpoint')
    parser.add_argument(
        '--host', default='127.0.0.1', help='0.0.0.0 for all who reach this machine; default: 127.0.0.1'
    )
    parser.add_argument('--port', type=int, default=7860, help='0 for any free one; default: 7860')
    parser.add_argument(
        '--min-score',
        type=float,
        default=SURE,
        metavar='S',
        help='what scores lower, after temperature scaling where the model has one, is unsure: 0 to 1; '
        'default: %(default)s',
    )
    args = parser.parse_args(argv)
    if not 0 <= args.min_score <= 1:
        parser.error(f'--min-score {args.min_score}: must lie in 0 to 1')
    if not args.host:
        parser.error('--host: is empty; name 127.0.0.1, or 0.0.0.0 for all who reach this machine')
    if not 0 <= args.port < 1 << 16:
        parser.error(f'--port {args.port}: must lie in 0 to 65535')
    if args.config and is_exported(args.model):
        parser.error('--config: means nothing to an .onnx model')
    return args


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it too leaves no files behind
    try:
        with tempfile.TemporaryDirectory(prefix='web_demo_') as folder:
            tempfile.tempdir = os.environ['GRADIO_TEMP_DIR'] = folder  # Gradio reads it when it is imported
            run(args, Path(folder))
    except KeyboardInterrupt:
        pass
    return 0


def run(args: argparse.Namespace, folder: Path) -> None:
    """Opens the model and serves it, with all files in ``folder``."""
    try:
        from custom_modules.inference.web_demo import build_app, serve
    except ModuleNotFoundError as error:
        if error.name != 'gradio':
            raise
        raise InputError(f"the page needs Gradio ({error}): pip install 'gradio>=6,<7'") from None

    from custom_modules.inference.classify_upload import Classifier
    from custom_modules.inference.outcomes import check_unsure

    try:
        listener = socket.create_server((args.host, args.port))
    except OSError as error:
        raise InputError(f'{args.host}:{args.port}: {error.strerror}; name another --host or --port') from None
    predictor: Any = open_predictor(args.model, args.config)
    check_unsure(predictor.classes, args.min_score)
    if not is_exported(args.model):  # whose temperature, if its checkpoint was tested, is in it
        from custom_modules.evaluation.results import know

        known = know(Path(args.model), predictor.weights, {'temperature': predictor.temperature})
        predictor.temperature = known.temperature
        print(f'temperature {known.source}')
    heat, no_heat = None, 'An exported model shows no heat map; its checkpoint does.'
    if not is_exported(args.model):
        try:
            from custom_modules.inference.heat_map import HeatMaps

            heat = HeatMaps(predictor)
        except ModuleNotFoundError as error:
            no_heat = f"No heat map ({error}): pip install 'grad-cam<2'"
            print(no_heat)
    examples = []
    try:
        from custom_modules.datasets.demo_flowers import draw_demo_flowers

        draw_demo_flowers(folder / 'examples', per_class=1, size=320)
        examples = [file for file in sorted(folder.glob('examples/*/*')) if file.parent.name in predictor.classes]
    except ModuleNotFoundError as error:
        print(f'no drawn examples on the page ({error}): pip install opencv-python-headless')
    classifier = Classifier(predictor, args.min_score)
    try:
        app = build_app(classifier, '/'.join(Path(args.model).parts[-2:]), examples, heat, no_heat)
        print(f'http://{args.host}:{listener.getsockname()[1]} (Ctrl-C ends it)', flush=True)
        serve(listener, app)
    finally:
        classifier.close()


if __name__ == '__main__':
    sys.exit(run_tool(main))
