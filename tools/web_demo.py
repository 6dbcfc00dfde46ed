"""Shows a classifier in the browser: ``python tools/web_demo.py work_dirs/flower_mobilenetv2/best.pth``.

An exported model (``.onnx``) needs onnxruntime, opencv-python-headless, Pillow, NumPy and Gradio only.
"""

import argparse
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import require_packages, run_tool
from custom_modules.models.model_file import is_exported


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Which model, the address to listen at, and when a prediction is unsure."""
    parser = argparse.ArgumentParser(description='Classify images on a page in the browser, and by HTTP.')
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
        default=0.9,
        metavar='S',
        help='predictions with a lower score, after temperature scaling where the model has one, are unsure: 0 to 1; '
        'default: %(default)s',
    )
    args = parser.parse_args(argv)
    if not 0 <= args.min_score <= 1:
        parser.error(f'--min-score {args.min_score}: must be between 0 and 1')
    if not args.host:
        parser.error('--host: is empty; name 127.0.0.1, or 0.0.0.0 for all who reach this machine')
    if not 0 <= args.port < 1 << 16:
        parser.error(f'--port {args.port}: must be between 0 and 65535')
    if args.config and is_exported(args.model):
        parser.error('--config: has no meaning for an .onnx model')
    return args


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM, and leaves no files behind."""
    args = parse_args(argv)
    require_packages({'gradio': 'gradio>=6,<7'}, 'the page')
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix='web_demo_') as folder:
        tempfile.tempdir = os.environ['GRADIO_TEMP_DIR'] = folder  # read when Gradio is imported
        try:
            from custom_modules.inference.web_demo import serve_model

            serve_model(**vars(args))
        finally:
            tempfile.tempdir = None
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
