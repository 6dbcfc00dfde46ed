"""The web page and ``POST /classify``, on one server."""

import asyncio
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

from custom_modules.inference.classify_upload import (
    KINDS,
    MAX_BYTES,
    MAX_MEGABYTES,
    NO_IMAGE,
    TOO_BIG,
    Answer,
    UploadClassifier,
)
from custom_modules.inference.predict import summarize
from custom_modules.metrics.predictions import columns, row, write_rows
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
STATUS = {TOO_BIG: 413, TOO_LARGE: 413, NO_IMAGE: 415}  # of HTTP; 400 for any other problem


def serve(listener: socket.socket, app: FastAPI) -> None:
    """Serves until Ctrl-C or SIGTERM, without waiting for connected browsers."""
    uvicorn.Server(uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=1)).run([listener])


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

    def look(image: Path, name: str) -> tuple[Answer | Unreadable, str | None, str | None]:
        """The outcome, the picture and the heat map."""
        outcome = classifier.classify(image, name)
        if isinstance(outcome, Unreadable):
            return outcome, None, None
        heat = classifier.heat(image, outcome.prediction.label) if classifier.heat and alone else None
        return outcome, thumbnail(image, LARGE if alone else SMALL), heat

    with tempfile.TemporaryDirectory() as folder:
        waiting = []
        for i, image in enumerate(images):
            mine = Path(folder, str(i))
            os.link(image, mine)  # Gradio deletes its own after a while, or replaces it by an upload of the same image
            waiting.append(asyncio.get_running_loop().run_in_executor(classifier.pool, look, mine, image.name))
        seen: list[Any] = await asyncio.gather(*waiting)
    read = [
        {'answer': one, 'picture': picture, 'heat': heat} for one, picture, heat in seen if isinstance(one, Answer)
    ]
    outcomes = [outcome.prediction if isinstance(outcome, Answer) else outcome for outcome, *_ in seen]
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
        csv=csv_address([item['answer'] for item in read], classifier.classes),
    )


def csv_address(answers: Sequence[Answer], classes: Sequence[str]) -> str:
    """The table of tools/predict.py, with calibrated scores and whether each is sure, as a ``data:`` URL.

    A path that a spreadsheet would take for a formula begins with ``./``.
    """
    rows = [{**row(one.prediction, classes), 'sure': one.sure} for one in answers]
    for values in rows:
        if values['path'].startswith(('=', '+', '-', '@')):
            values['path'] = f'./{values["path"]}'
    table = io.BytesIO()
    write_rows(table, rows, [*columns(classes, with_truth=False), 'sure'], '.csv')
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
    async with request.form() as form:
        uploads = [part for part in form.getlist('photo') if isinstance(part, UploadFile)]
        if not uploads:
            raise HTTPException(400, 'no photo: send one or more as form data, such as curl -F photo=@rose.jpg')
        with tempfile.TemporaryDirectory() as folder:
            run, pool = asyncio.get_running_loop().run_in_executor, classifier.pool
            waiting = [
                run(pool, _classify_upload, classifier, Path(folder, str(i)), upload)
                for i, upload in enumerate(uploads)
            ]
            outcomes = await asyncio.gather(*waiting)
    if len(outcomes) > 1:
        named = zip(uploads, outcomes, strict=True)
        return [{'photo': upload.filename, **_fields(outcome)} for upload, outcome in named]
    if isinstance(outcomes[0], Unreadable):
        raise HTTPException(STATUS.get(outcomes[0].problem, 400), outcomes[0].problem)
    return _fields(outcomes[0])


def _classify_upload(classifier: UploadClassifier, image: Path, upload: UploadFile) -> Answer | Unreadable:
    with image.open('wb') as file:
        shutil.copyfileobj(upload.file, file)
    try:
        return classifier.classify(image, upload.filename or 'photo')
    finally:
        image.unlink()


def _fields(outcome: Answer | Unreadable) -> dict[str, Any]:
    if isinstance(outcome, Unreadable):
        return {'detail': outcome.problem}
    return {key: value for key, value in outcome._asdict().items() if key != 'prediction'}
