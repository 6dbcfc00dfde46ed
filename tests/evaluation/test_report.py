"""The report of a test: complete, in one file, safe whatever classes and photos are called, usable in a browser."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('pytorch_grad_cam', reason='grad-cam is an extra')
from html_elements import Elements, assert_self_contained

from custom_modules.evaluation import cam, report
from custom_modules.evaluation.report import write_report
from custom_modules.evaluation.results import Evaluation, figures
from custom_modules.metrics.predictions import Prediction
from custom_modules.models.model_file import ModelFile

CLASSES = ['daisy', '<b onload=x>"&\'', 'rose {{ 7*7 }} $x$', 'tulip']
FIGURES = ['confusion', 'coverage', 'curves', 'per_class', 'reliability', 'reliability_scaled']


def explain_drawn(model, dataset, wanted):
    """Stands in for :func:`cam.explain`: a picture of one colour, and a map for each class but the last."""
    for i, labels in wanted.items():
        picture = np.full((64, 64, 3), 40 + 5 * i, np.uint8)
        yield cam.Explained(i, picture, {k: np.full((2, 2), float(k < 3), np.float32) for k in labels})


@pytest.fixture(scope='module', autouse=True)
def without_a_model():
    """These tests are about the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, 'explain', explain_drawn)
        yield


@pytest.fixture(scope='module')
def tested(tmp_path_factory):
    """24 photos of four classes, of which every third is wrong, and the log of two epochs."""
    tmp_path = tmp_path_factory.mktemp('tested')
    random = np.random.default_rng(0)
    predictions = []
    for i in range(24):
        scores = random.dirichlet(np.ones(4)) * 0.4
        scores[(i + (i % 3 == 0)) % 4] += 0.6
        name = f'<img src=x onerror=alert({i})>.jpg' if i == 3 else f'{i}.jpg'
        predictions.append(Prediction(f'data/val/{name}', scores.tolist(), i % 4))
    log = tmp_path / 'run' / '20260101_000000' / 'vis_data'
    log.mkdir(parents=True)
    epochs = [{'epoch/lr': 0.1, 'epoch/loss_train': 1 / n, 'epoch/accuracy_val': 90.0, 'step': n} for n in (1, 2)]
    (log / 'scalars.json').write_text('\n'.join(map(json.dumps, epochs)))
    results = {
        **figures(predictions, CLASSES),
        'nll/mean': 0.5,
        'checkpoint': 'run/best.pth',
        'epoch': 2,
        'dataset': 'd' * 64,
        'trained_on': 'd' * 64,
        'tested': 'val.txt',
        'tta': False,
    }
    meta = {'config': "randomness = dict(seed=0)\nx = '</pre><script>alert(1)</script>'", 'versions': {'torch': '0'}}
    weights = {'w': torch.zeros(3)}
    file = ModelFile(tmp_path / 'run' / 'best.pth', CLASSES, meta, 'e' * 64, {'meta': meta, 'state_dict': weights})
    return Evaluation(file, None, SimpleNamespace(data_root='data'), tmp_path / 'run', predictions, results)


@pytest.fixture(scope='module')
def folder(tested):
    """The report's folder."""
    folder = tested.work_dir / 'report'
    write_report(folder, tested)
    return folder


def test_the_folder_is_complete(folder, tested):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())
    drawn = [f'figures/{name}.{suffix}' for name in FIGURES for suffix in ('png', 'svg')]
    assert names == sorted([*drawn, 'best.pth.MODEL_CARD.md', 'index.html', 'metrics.json', 'predictions.csv'])
    assert json.loads((folder / 'metrics.json').read_text()) == json.loads(json.dumps(tested.results))
    for name in FIGURES:
        assert (folder / 'figures' / f'{name}.png').read_bytes().startswith(b'\x89PNG')
        assert '<svg' in (folder / 'figures' / f'{name}.svg').read_text()
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith('.')] == []


def test_every_misclassified_image_is_there_the_most_confident_first(folder, tested):
    page = (folder / 'index.html').read_text()
    cards = [int(i) for i in re.findall(r'<article class="card" id="photo-(\d+)" tabindex="0" data-truth', page)]
    wrong = [i for i, p in enumerate(tested.predictions) if p.label != p.truth]
    assert sorted(cards) == wrong
    scores = [max(tested.predictions[i].scores) for i in cards]
    assert scores == sorted(scores, reverse=True)
    for i in wrong:
        assert len(re.findall(rf'href="#photo-{i}"', page)) == 1
    assert page.count('val/6.jpg') == 1
    assert 'no heat map for tulip' in page


def test_refers_to_nothing_outside_and_escapes_names(folder):
    page = (folder / 'index.html').read_text()
    assert_self_contained(page)
    assert all(set(attributes) <= {'style'} for attributes in Elements(page).named('b'))
    assert 'rose {{ 7*7 }}' in page
    assert '&lt;img src=x onerror=alert(3)&gt;.jpg' in page


def test_the_same_test_gives_the_same_files(folder, tested, tmp_path):
    write_report(tmp_path / 'again', tested)
    for file in folder.rglob('*.*'):
        assert file.read_bytes() == (tmp_path / 'again' / file.relative_to(folder)).read_bytes(), file.name


def test_missing_parts_are_named(tested, tmp_path):
    only = [Prediction('one.jpg', [0.7, 0.1, 0.1, 0.1], 0)]
    results = {**tested.results, **figures(only, CLASSES), 'dataset': None, 'epoch': None, 'trained_list': 'val.txt'}
    file = dataclasses.replace(tested.file, path=tmp_path / 'elsewhere' / 'best.pth', meta={})
    bare = dataclasses.replace(tested, file=file, predictions=only, results=results)
    write_report(tmp_path / 'bare', bare)
    page = (tmp_path / 'bare' / 'index.html').read_text()
    texts = ['No curves: ', 'The checkpoint has no config.', 'Too few images for temperature scaling.']
    texts += [
        'No image is misclassified.',
        'Misclassified images: 0',
        'No manifest.json',
        'Tested on the training images',
    ]
    assert [text for text in texts if text not in page] == []
    assert not list((tmp_path / 'bare').rglob('curves.*'))


def test_images_beyond_the_pictures_are_listed(tested, tmp_path, monkeypatch):
    monkeypatch.setattr(report, 'MAX_PICTURES', 2)
    write_report(tmp_path / 'few', tested)
    page = (tmp_path / 'few' / 'index.html').read_text()
    gallery = page[page.index('id="gallery"') : page.index('id="right"')]
    assert gallery.count('<article') == 8
    assert gallery.count('class="photo"') == 2


@pytest.mark.parametrize('width', [1280, 390])
def test_the_page_in_a_browser(folder, browser, width):
    browser.open(folder / 'index.html', width)
    pictures = 'Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth)))'
    assert min(browser.run(pictures)) > 0
    assert browser.run('document.documentElement.scrollWidth <= innerWidth')

    shown = "[...document.querySelectorAll('#gallery .card')].filter(card => card.offsetParent).length"
    assert browser.run(shown) == 8
    # A cell of the matrix shows its photos; so do the filters; a picture of a pair leads to its card.
    browser.run("document.querySelector('.matrix a').click()")
    assert browser.run(shown) == 2
    assert browser.run("document.querySelector('.tools output').textContent") == '2 of 8 shown'
    browser.run("document.querySelector('.tools button').click()")
    assert browser.run(f'new Promise(done => setTimeout(() => done({shown}), 50))') == 8
    browser.run("{ const menu = document.forms[0].truth; menu.value = '3'; menu.dispatchEvent(new Event('change', "
                '{bubbles: true})) }')  # fmt: skip
    assert browser.run(shown) == 2
    browser.run("document.querySelector('.strip a').click()")
    assert browser.run(shown) == 8
    assert browser.run('document.activeElement.id') == browser.run("document.querySelector('.strip a').hash")[1:]

    # Arrow keys go from card to card, in rows; what has the focus is marked.
    focus = "[...document.querySelectorAll('#gallery .card')].indexOf(document.activeElement)"
    columns = {1280: 3, 390: 1}[width]
    for key, place in (('Home', 0), ('ArrowRight', 1), ('ArrowDown', 1 + columns), ('ArrowLeft', columns), ('End', 7)):
        browser.press(key)
        assert browser.run(focus) == place, key
    assert browser.run('getComputedStyle(document.activeElement).outlineStyle') == 'solid'

    assert browser.problems == []
    assert {address for address in browser.requests if not address.startswith('file:')} == set()
    assert {address.partition('#')[0] for address in browser.requests} == {(folder / 'index.html').as_uri()}
