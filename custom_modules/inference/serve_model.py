"""Starts the web page of a model: opens what it needs, and leaves no files behind."""

import os
import signal
import socket
import tempfile
from pathlib import Path
from threading import Lock
from typing import Any

from custom_modules.errors import InputError
from custom_modules.inference.classify_upload import Heat, UploadClassifier
from custom_modules.inference.predict import check_min_score
from custom_modules.inference.predictor import open_predictor
from custom_modules.models.model_file import is_exported
from custom_modules.photos.thumbnails import data_address

HEAT_MAP = 448  # pixels, the longer side


def serve_model(model: str, config: str | None, host: str, port: int, min_score: float) -> None:
    """Serves until Ctrl-C or SIGTERM; the arguments are those of ``tools/web_demo.py``."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it leaves no files behind either
    before = tempfile.tempdir
    try:
        with tempfile.TemporaryDirectory(prefix='web_demo_') as folder:
            tempfile.tempdir = os.environ['GRADIO_TEMP_DIR'] = folder  # read when Gradio is imported
            _serve(model, config, (host, port), min_score, Path(folder))
    except KeyboardInterrupt:
        pass
    finally:
        tempfile.tempdir = before


def _serve(model: str, config: str | None, address: tuple[str, int], min_score: float, folder: Path) -> None:
    try:
        from custom_modules.inference.web_demo import build_app, serve  # imports Gradio, once its folder is set
    except ModuleNotFoundError as error:
        if error.name != 'gradio':
            raise
        raise InputError(f"the page needs Gradio ({error}): pip install 'gradio>=6,<7'") from None
    try:
        listener = socket.create_server(address)
    except OSError as error:
        raise InputError(f'{address[0]}:{address[1]}: {error.strerror}. Name another --host or --port.') from None
    predictor: Any = open_predictor(model, config)
    check_min_score(min_score, predictor.classes)
    if is_exported(model):
        no_heat = 'An exported model shows no heat map.'
        classifier = UploadClassifier(predictor, min_score, predictor.temperature, no_heat=no_heat)
    else:
        from custom_modules.evaluation.results import find_results  # needs packages that an exported model does not

        known = find_results(predictor.file)
        print(f'temperature {known.source}')
        classifier = UploadClassifier(predictor, min_score, known.temperature)
        try:
            classifier.heat = heat_maps(predictor)
        except ModuleNotFoundError as error:
            classifier.no_heat = f"No heat map ({error}): pip install 'grad-cam<2'"
            print(classifier.no_heat)
    try:
        app = build_app(classifier, '/'.join(Path(model).parts[-2:]), _examples(folder, predictor.classes))
        print(f'http://{address[0]}:{listener.getsockname()[1]} (Ctrl-C ends it)', flush=True)
        serve(listener, app)
    finally:
        classifier.pool.shutdown(cancel_futures=True)


def heat_maps(predictor: Any) -> Heat:
    """Draws the regions of an image that speak for a class, by Grad-CAM on the model of a ``TorchPredictor``."""
    from custom_modules.evaluation.cam import explain, heat

    lock = Lock()  # gradients gather in the weights, which all threads share

    def draw(image: Path, label: int) -> str | None:
        items = [predictor.load(str(image))]
        with lock:
            (explained,) = explain(predictor.model, items, {0: [label]})
        cam = (explained.maps or {}).get(label)
        return None if cam is None or not cam.any() else data_address(heat(explained.picture, cam, HEAT_MAP))

    return draw


def _examples(folder: Path, classes: list[str]) -> list[Path]:
    """Drawn flowers of the model's classes, one each; none where a package for drawing is missing."""
    try:
        from custom_modules.datasets.demo_flowers import draw_demo_flowers
    except ModuleNotFoundError as error:
        print(f'no drawn examples on the page ({error})')
        return []
    draw_demo_flowers(folder / 'examples', per_class=1, size=320)
    return [file for file in sorted(folder.glob('examples/*/*')) if file.parent.name in classes]
