"""A web server with a Gradio page and the endpoint ``POST /classify``."""

import base64
import io
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from custom_modules.datasets.demo_flowers import draw_demo_flowers
from custom_modules.errors import InputError
from custom_modules.inference.classify_upload import (
    KINDS,
    MAX_BYTES,
    MAX_MEGABYTES,
    TOO_BIG,
    UploadClassifier,
    open_classifier,
)
from custom_modules.inference.predict import summarize
from custom_modules.metrics.predictions import Prediction, columns, row, write_rows
from custom_modules.pages import render
from custom_modules.photos.image_files import MAX_PIXELS, TOO_LARGE, Unreadable
from custom_modules.photos.thumbnails import thumbnail

TEMPLATE = Path(__file__).with_name('web_demo.html')
STYLE = Path(__file__).with_name('web_demo.css')
TITLE = 'Flower classifier'
MAX_REQUEST_MEGABYTES = 200
LARGE, SMALL = 448, 112  # pixels, the longer side of an image on the page: alone, and in the table
SWEEP, AGE = 5, 30  # seconds: how often Gradio looks for its copies of uploads, and the age at which it deletes them
ON_EXAMPLE = """element.querySelectorAll('button').forEach((button, number) =>
    button.addEventListener('click', () => trigger('click', {number})))"""
STATUS = {TOO_BIG: 413, TOO_LARGE: 413, 'empty file': 400}  # of HTTP; 415 for any other problem


def serve_model(model: str, config: str | None, host: str, port: int, min_score: float) -> None:
    """Serves until Ctrl-C or SIGTERM; the arguments are those of ``tools/web_demo.py``."""
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise InputError(f'{host}:{port}: {error.strerror}. Name another --host or --port.') from None
    classifier = open_classifier(model, config, min_score)
    flowers = Path(tempfile.mkdtemp(), 'examples')
    draw_demo_flowers(flowers, per_class=1, size=320)
    examples = [file for file in sorted(flowers.glob('*/*')) if file.parent.name in classifier.classes]
    app = build_app(classifier, '/'.join(Path(model).parts[-2:]), examples)
    print(f'http://{host}:{listener.getsockname()[1]} (Ctrl-C ends it)', flush=True)
    try:
        # Does not wait for connected browsers at the end.
        uvicorn.Server(uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=1)).run([listener])
    finally:
        classifier.pool.shutdown(cancel_futures=True)


def build_app(classifier: UploadClassifier, model: str, examples: Sequence[Path]) -> FastAPI:
    """The server's application, with the model's name and images to try, each in a folder named for its class."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # those pages load from a CDN

    @app.post('/classify')
    async def classify(request: Request) -> Any:
        return await answer(request, classifier)

    # The machine's own fonts: nothing is loaded from elsewhere.
    theme = gr.themes.Base(primary_hue='blue', font=gr.themes.Font('system-ui'), font_mono=gr.themes.Font('monospace'))
    return gr.mount_gradio_app(
        app,
        build_page(model, lambda paths: result(list(map(Path, paths)), classifier), examples),
        path='/',
        theme=theme,
        css=STYLE.read_text(encoding='utf-8'),
        max_file_size=MAX_BYTES,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
    )


def build_page(model: str, show: Callable[[list], Awaitable[str]], examples: Sequence[Path]) -> gr.Blocks:
    """The page; ``show`` renders the result of uploaded files."""

    async def show_files(paths: list[str]) -> tuple[str, None]:
        return await show(paths), None  # empties the drop area for the next files

    async def show_shot(path: str | None) -> str:
        return await show([path] if path else [])

    async def show_example(clicked: gr.EventData) -> str:
        return await show([examples[clicked._data['number']]])

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(SWEEP, AGE)) as page:
        gr.HTML(f'<h1>{TITLE}</h1>')
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                files = gr.File(label='Photos', file_count='multiple', file_types=['image'], height=180)
                limits = f'{KINDS}, up to {MAX_MEGABYTES} MB and {MAX_PIXELS // 10**6} million pixels each'
                gr.HTML(render(TEMPLATE, part='about', limits=limits, model=model))
                with gr.Accordion('Take a photo', open=False):
                    camera = gr.Image(sources=['webcam'], type='filepath', format='jpeg', show_label=False)
                pictures = [(path.parent.name, thumbnail(path, SMALL)) for path in examples]
                drawn = gr.HTML(render(TEMPLATE, part='examples', pictures=pictures), js_on_load=ON_EXAMPLE)
            with gr.Column(scale=3, min_width=300):
                shown = gr.HTML(render(TEMPLATE, part='nothing'), elem_id='result')
        event: dict[str, Any] = {
            'concurrency_limit': None,  # the classifier has one
            'api_visibility': 'private',
            'scroll_to_output': True,
            'show_progress_on': shown,
        }
        files.upload(show_files, files, [shown, files], **event)
        camera.input(show_shot, camera, shown, **event)
        drawn.click(show_example, None, shown, **event)
    return page


async def result(images: Sequence[Path], classifier: UploadClassifier) -> str:
    """The page's result: one image with its scores and heat map, several as a table, and unreadable files."""
    alone = len(images) == 1

    def look(image: Path) -> dict[str, Any]:
        outcome = classifier.classify(image, image.name)
        if isinstance(outcome, Unreadable):
            return {'outcome': outcome}
        heat = classifier.heat(image, outcome.label) if classifier.heat and alone else None
        picture = thumbnail(image, LARGE if alone else SMALL)
        return {'outcome': outcome, 'picture': picture, 'heat': heat, **classifier.fields(outcome)}

    with tempfile.TemporaryDirectory() as folder:
        links = []
        for image in images:
            links.append(Path(tempfile.mkdtemp(dir=folder), image.name))
            os.link(image, links[-1])  # Gradio deletes its own after a while, or replaces it by another upload
        seen = await classifier.in_threads(look, links)
    outcomes = [item['outcome'] for item in seen]
    read = [item for item in seen if isinstance(item['outcome'], Prediction)]
    return render(
        TEMPLATE,
        part='result',
        read=read,
        problems=[outcome for outcome in outcomes if isinstance(outcome, Unreadable)],
        summary=summarize(outcomes, classifier.classes, classifier.min_score),
        alone=alone,
        min_score=classifier.min_score,
        calibrated=classifier.temperature is not None,
        no_heat=classifier.no_heat,
        csv=csv_address([item['outcome'] for item in read], classifier),
    )


def csv_address(predictions: Sequence[Prediction], classifier: UploadClassifier) -> str:
    """The table of tools/predict.py, with calibrated scores and whether each is sure, as a ``data:`` URL.

    A path that a spreadsheet would take for a formula begins with ``./``.
    """
    rows = []
    for one in predictions:
        path = f'./{one.path}' if one.path.startswith(('=', '+', '-', '@')) else one.path
        rows.append({**row(one, classifier.classes), 'path': path, 'sure': classifier.fields(one)['sure']})
    table = io.BytesIO()
    write_rows(table, rows, [*columns(classifier.classes, with_truth=False), 'sure'], '.csv')
    return f'data:text/csv;base64,{base64.b64encode(table.getvalue()).decode()}'


async def answer(request: Request, classifier: UploadClassifier) -> Any:
    """Answers ``POST /classify``: an object for one image, a list of objects for several; what is wrong in a line."""
    length = request.headers.get('content-length', '')
    if not length.isdecimal():
        raise HTTPException(411, 'the request has to say its Content-Length')
    if int(length) > MAX_REQUEST_MEGABYTES << 20:
        raise HTTPException(413, f'too large, more than {MAX_REQUEST_MEGABYTES} MB at once')
    try:
        await request.form()
    except ClientDisconnect:  # nobody is left to answer; uncaught, it is a traceback in the terminal
        raise HTTPException(400, 'the connection ended before the request') from None

    def classify(upload: UploadFile) -> Prediction | Unreadable:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder, 'image')
            with image.open('wb') as file:
                shutil.copyfileobj(upload.file, file)
            return classifier.classify(image, upload.filename or 'photo')

    async with request.form() as form:
        uploads = [part for part in form.getlist('photo') if isinstance(part, UploadFile)]
        if not uploads:
            raise HTTPException(400, 'no photo: send one or more as form data, such as curl -F photo=@rose.jpg')
        outcomes = await classifier.in_threads(classify, uploads)
    if len(outcomes) > 1:
        return [
            {'photo': one.path} | ({'detail': one.problem} if isinstance(one, Unreadable) else classifier.fields(one))
            for one in outcomes
        ]
    (outcome,) = outcomes
    if isinstance(outcome, Unreadable):
        raise HTTPException(STATUS.get(outcome.problem, 415), outcome.problem)
    return classifier.fields(outcome)
