"""The page in the browser and ``POST /classify``, on one server. How photos are judged is ``classify_upload``'s."""

import asyncio
import base64
import io
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
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
    Classifier,
)
from custom_modules.inference.outcomes import Summary
from custom_modules.metrics.predictions import columns, row, write_rows
from custom_modules.pages import render
from custom_modules.photos.opening import (
    MAX_PIXELS,
    TOO_LARGE,
    Unreadable,
    eight_bits,
    open_photo,
    orientation,
    upright,
)

TEMPLATE = Path(__file__).with_name('web_demo.html')
STYLE = Path(__file__).with_name('web_demo.css')
TITLE = 'Flower classifier'
MAX_REQUEST_MEGABYTES = 200
LARGE, SMALL = 448, 112  # pixels, the longer side of a photo on the page: alone, and in the table
SWEEP, AGE = 5, 30  # seconds: how often Gradio looks for its copies of uploads, and deletes those older than this
ON_EXAMPLE = """element.querySelectorAll('button').forEach((button, number) =>
    button.addEventListener('click', () => trigger('click', {number})))"""
STATUS = {TOO_BIG: 413, TOO_LARGE: 413, NO_IMAGE: 415}  # of HTTP; 400 for any other problem

# A photo and a label to the ``data:`` address of a heat map, or None where no place stands out.
Heat = Callable[[Path, int], str | None]


def serve(listener: socket.socket, app: FastAPI) -> None:
    """Answers until Ctrl-C or SIGTERM; browsers that are connected then are not waited for."""
    uvicorn.Server(uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=1)).run([listener])


def build_app(
    classifier: Classifier, model: str, examples: Sequence[Path], heat: Heat | None, no_heat: str
) -> FastAPI:
    """The server's application.

    Args:
        classifier: What answers.
        model: The model's file, as the page names it.
        examples: Photos to try, each in a folder named for what it shows.
        heat: Draws what in a photo speaks for a class; None where that is not possible.
        no_heat: Why not.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # those pages load from a CDN

    @app.post('/classify')
    async def classify(request: Request) -> Any:
        return await answer(request, classifier)

    async def show(paths: Iterable[str]) -> str:
        return await result(list(map(Path, paths)), classifier, heat, no_heat)

    return gr.mount_gradio_app(
        app,
        build_page(model, show, examples),
        path='/',
        # The machine's own fonts: nothing is loaded.
        theme=gr.themes.Base(
            primary_hue='blue', font=gr.themes.Font('system-ui'), font_mono=gr.themes.Font('monospace')
        ),
        css=STYLE.read_text(encoding='utf-8'),
        max_file_size=MAX_BYTES,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
    )


def build_page(model: str, show: Callable[[Iterable[str]], Awaitable[str]], examples: Sequence[Path]) -> gr.Blocks:
    """The page, on which ``show`` makes the result of uploaded files."""

    async def show_files(paths: list[str]) -> tuple[str, None]:
        return await show(paths), None  # the drop area is free for the next

    async def show_shot(path: str | None) -> str:
        return await show([path] if path else [])

    async def show_example(clicked: gr.EventData) -> str:
        return await show([str(examples[clicked._data['number']])])

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(SWEEP, AGE)) as page:
        gr.HTML(f'<h1>{TITLE}</h1>')
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                files = gr.File(label='Photos', file_count='multiple', file_types=['image'], height=180)
                limits = f'{KINDS}, up to {MAX_MEGABYTES} MB and {MAX_PIXELS // 10**6} million pixels each'
                gr.HTML(render(TEMPLATE, part='about', limits=limits, model=model))
                with gr.Accordion('Take a photo', open=False):
                    camera = gr.Image(sources=['webcam'], type='filepath', format='jpeg', show_label=False)
                pictures = [(photo.parent.name, thumbnail(photo, SMALL)) for photo in examples]
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


async def result(photos: Sequence[Path], classifier: Classifier, heat: Heat | None, no_heat: str) -> str:
    """What the page shows of photos: one with its scores and heat map, several as a table, and what is wrong."""
    alone = len(photos) == 1

    def look(photo: Path, name: str) -> dict[str, Any]:
        outcome = classifier.classify(photo, name)
        if isinstance(outcome, Unreadable):
            return {'problem': outcome}
        return {
            'answer': outcome,
            'picture': thumbnail(photo, LARGE if alone else SMALL),
            'heat': heat(photo, outcome.prediction.label) if heat and alone else None,
        }

    with tempfile.TemporaryDirectory() as folder:
        waiting = []
        for i, photo in enumerate(photos):
            # Gradio deletes its own after a while, or another one's upload of the same photo replaces it.
            mine = Path(folder, str(i))
            os.link(photo, mine)
            waiting.append(asyncio.wrap_future(classifier.submit(look, mine, photo.name)))
        seen = await asyncio.gather(*waiting)
    read = [item for item in seen if 'answer' in item]
    summary = Summary(classifier.predictor.classes, classifier.min_score)
    list(summary.watch(item['answer'].prediction if 'answer' in item else item['problem'] for item in seen))
    return render(
        TEMPLATE,
        part='result',
        read=read,
        problems=summary.unreadable,
        summary=summary,
        alone=alone,
        classes=classifier.predictor.classes,
        min_score=classifier.min_score,
        calibrated=classifier.predictor.temperature is not None,
        no_heat='No heat map of this photo: no place stands out.' if heat else no_heat,
        csv=csv_address([item['answer'] for item in read], classifier.predictor.classes),
    )


def thumbnail(photo: Path, size: int) -> str:
    """A photo, upright, as the ``data:`` address of a JPEG with ``size`` pixels on its longer side at most."""
    with photo.open('rb') as file:
        image = open_photo(file)
        image.draft('RGB', (2 * size, 2 * size))
        image.load()
        turn = orientation(image)
        image = eight_bits(image)
        image.thumbnail((size, size))
        small = io.BytesIO()
        upright(image.convert('RGB'), turn).save(small, 'JPEG')
    return _data_address('image/jpeg', small.getvalue())


def csv_address(answers: Sequence[Answer], classes: Sequence[str]) -> str:
    """The table of tools/predict.py, with the page's scores and whether each is sure, as a ``data:`` address.

    A path in it that a spreadsheet would take for a formula begins with ``./``.
    """
    table = io.BytesIO()
    rows = [{**row(one.prediction, classes), 'sure': one.sure} for one in answers]
    for values in rows:
        if values['path'].startswith(('=', '+', '-', '@')):
            values['path'] = f'./{values["path"]}'
    write_rows(table, rows, [*columns(classes, with_truth=False), 'sure'], '.csv')
    return _data_address('text/csv', table.getvalue())


def _data_address(kind: str, content: bytes) -> str:
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


async def answer(request: Request, classifier: Classifier) -> Any:
    """Answers ``POST /classify``: one photo with an object, several with a list of what each alone would get.

    Raises:
        HTTPException: With one line of ``detail``.
    """
    length = request.headers.get('content-length', '')
    if not length.isdecimal():
        raise HTTPException(411, 'the request has to say its Content-Length')
    if int(length) > MAX_REQUEST_MEGABYTES << 20:
        raise HTTPException(413, f'too large, more than {MAX_REQUEST_MEGABYTES} MB at once')

    def look(photo: Path, upload: UploadFile) -> Answer | Unreadable:
        with photo.open('wb') as file:
            shutil.copyfileobj(upload.file, file)
        try:
            return classifier.classify(photo, upload.filename or 'photo')
        finally:
            photo.unlink()

    try:
        await request.form()
    except ClientDisconnect:  # whom nobody can answer any more; left alone, it is a traceback in the terminal
        raise HTTPException(400, 'the connection ended before the request') from None
    async with request.form() as form:
        uploads = [part for part in form.getlist('photo') if isinstance(part, UploadFile)]
        if not uploads:
            raise HTTPException(400, 'no photo: send one or more as form data, such as curl -F photo=@rose.jpg')
        with tempfile.TemporaryDirectory() as folder:
            outcomes = await asyncio.gather(
                *(
                    asyncio.wrap_future(classifier.submit(look, Path(folder, str(i)), upload))
                    for i, upload in enumerate(uploads)
                )
            )
    if len(outcomes) > 1:
        return [
            {'photo': upload.filename, **_fields(one, classifier)}
            for upload, one in zip(uploads, outcomes, strict=True)
        ]
    (outcome,) = outcomes
    if isinstance(outcome, Unreadable):
        raise HTTPException(STATUS.get(outcome.problem, 400), outcome.problem)
    return _fields(outcome, classifier)


def _fields(outcome: Answer | Unreadable, classifier: Classifier) -> dict[str, Any]:
    if isinstance(outcome, Unreadable):
        return {'detail': outcome.problem}
    scores = dict(zip(classifier.predictor.classes, outcome.prediction.scores, strict=True))
    return {'label': outcome.label, 'score': outcome.score, 'scores': scores, 'sure': outcome.sure}
