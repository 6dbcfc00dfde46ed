"""Starts the web page of a model: opens what it needs, and leaves no files behind."""

import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any

from custom_modules.errors import InputError
from custom_modules.inference.classify_upload import Heat, UploadClassifier
from custom_modules.inference.predict import Summary
from custom_modules.inference.predictor import open_predictor
from custom_modules.models.model_file import is_exported


def serve_model(model: str, config: str | None, host: str, port: int, min_score: float) -> None:
    """Serves until Ctrl-C or SIGTERM; the arguments are those of ``tools/web_demo.py``.

    Raises:
        InputError: The model or the address cannot be used, or Gradio is missing.
    """
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
    predictor = open_predictor(model, config)
    Summary(predictor.classes, min_score)  # refuses a class called unsure
    if is_exported(model):
        temperature, heat, no_heat = predictor.temperature, None, 'An exported model shows no heat map.'
    else:
        temperature, heat, no_heat = _of_checkpoint(predictor)
    classifier = UploadClassifier(predictor, min_score, temperature)
    try:
        name, examples = '/'.join(Path(model).parts[-2:]), _examples(folder, predictor.classes)
        app = build_app(classifier, name, examples, heat, no_heat)
        print(f'http://{address[0]}:{listener.getsockname()[1]} (Ctrl-C ends it)', flush=True)
        serve(listener, app)
    finally:
        classifier.close()


def _of_checkpoint(predictor: Any) -> tuple[float | None, Heat | None, str]:
    """The temperature fitted by a test, what draws heat maps, and why there are none."""
    from custom_modules.evaluation.results import know  # needs packages that an exported model does not

    known = know(predictor.file)
    print(f'temperature {known.source}')
    try:
        from custom_modules.inference.heat_map import HeatMaps
    except ModuleNotFoundError as error:
        print(no_heat := f"No heat map ({error}): pip install 'grad-cam<2'")
        return known.temperature, None, no_heat
    return known.temperature, HeatMaps(predictor), ''


def _examples(folder: Path, classes: list[str]) -> list[Path]:
    """Drawn flowers of the model's classes, one each; none where a package for drawing is missing."""
    try:
        from custom_modules.datasets.demo_flowers import draw_demo_flowers
    except ModuleNotFoundError as error:
        print(f'no drawn examples on the page ({error})')
        return []
    draw_demo_flowers(folder / 'examples', per_class=1, size=320)
    return [file for file in sorted(folder.glob('examples/*/*')) if file.parent.name in classes]
