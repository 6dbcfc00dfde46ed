"""The report on doubtful labels: one self-contained page, safe for any file name; CSV and JSON."""

import base64
import csv
import io
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from html_elements import Elements

from custom_modules.evaluation import label_issues_page
from custom_modules.evaluation.label_issues import LabelIssues, LabelledPhotos, Suspect
from custom_modules.evaluation.label_issues_page import format_issues, render_page
from custom_modules.photos.thumbnails import thumbnail


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / 'rose').mkdir()
    for name in ('1.jpg', '<b onload=x>"&.jpg'):
        content = cv2.imencode('.jpg', np.random.default_rng(0).integers(0, 255, (600, 400, 3), np.uint8))[1]
        (tmp_path / 'rose' / name).write_bytes(content.tobytes())
    return tmp_path


def suspect(path: str) -> Suspect:
    return Suspect(path, 'rose', 'tulip', {'rose': 0.01, 'tulip': 0.97})


def issues(root: Path, suspects: list[Suspect], unreadable: list[tuple[str, str]]) -> LabelIssues:
    photos = LabelledPhotos(root, ['rose', 'tulip'], [('', 0)] * (30 + len(unreadable)), [])
    return LabelIssues(photos, suspects, unreadable, 0, root)


def test_csv_and_json_have_a_row_per_suspect(root):
    found = issues(root, [suspect('rose/a, "b".jpg')], [('rose/x.jpg', 'corrupt')])
    (row,) = csv.DictReader(io.StringIO(format_issues(found, '.csv')))
    expected = {'path': 'rose/a, "b".jpg', 'label': 'rose', 'suggested': 'tulip', 'score': '0.97'}
    assert row == {**expected, 'label_score': '0.01', 'score_rose': '0.01', 'score_tulip': '0.97'}
    whole = json.loads(format_issues(found, '.json'))
    assert {key: str(value) for key, value in whole['suspects'][0].items()} == row
    assert whole['unreadable'] == [{'path': 'rose/x.jpg', 'reason': 'corrupt'}]


def test_shows_every_suspect_and_refers_to_nothing_outside(root):
    page = render_page(issues(root, [suspect('rose/1.jpg')], [('rose/torn.jpg', 'no image')]))
    elements = Elements(page)
    (picture,) = elements.named('img')
    assert picture['src'].startswith('data:image/jpeg;base64,')
    assert picture['alt']
    assert not {'link', 'iframe', 'object', 'base', 'a'} & {tag for tag, _ in elements.found}
    for _, attributes in elements.found:
        for name in ('src', 'href', 'srcset', 'action', 'data', 'poster'):
            assert attributes.get(name, 'data:').startswith('data:')
    assert not re.search(r'https?:|url\(|@import|fetch\(|import\(|//\w', page.replace(picture['src'], ''))
    assert (elements.named('html')[0]['lang'], elements.named('meta')[1]['name']) == ('en', 'viewport')
    text = re.sub(r'\s+', ' ', re.sub('<[^>]*>', ' ', page))
    assert '1 doubtful label among 30 photos' in text
    assert 'labelled rose' in text
    assert 'looks like tulip 0.97' in text
    assert 'Unreadable: 1 photo' in text
    assert 'rose/torn.jpg : no image' in text


def test_names_cannot_become_markup(root):
    name = 'rose/<b onload=x>"&.jpg'
    page = render_page(issues(root, [suspect(name)], [(name, '<script>')]))
    elements = Elements(page)
    assert not any('onload' in attributes for _, attributes in elements.found)
    assert len(elements.named('script')) == 1
    assert elements.named('input')[0]['data-path'] == name


def test_says_so_when_nothing_is_doubtful_and_when_there_is_too_much(root, monkeypatch):
    page = render_page(issues(root, [], []))
    assert '0 doubtful labels among 30 photos' in page
    assert 'Every label agrees' in page
    monkeypatch.setattr(label_issues_page, 'MAX_CARDS', 2)
    page = render_page(issues(root, [suspect('rose/1.jpg')] * 3, []))
    assert page.count('<img') == 2
    assert re.search(r'the first 2 are shown; the .csv has\s+all', page)


def test_thumbnails_are_small_and_those_of_odd_photos_still_pictures(root):
    def decoded(photo: Path) -> np.ndarray:
        content = base64.b64decode(thumbnail(photo).partition(',')[2])
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)

    photo = root / 'rose' / '1.jpg'
    assert decoded(photo).shape == (320, 213, 3)
    (root / 'dot.png').write_bytes(cv2.imencode('.png', np.zeros((1, 1), np.uint16))[1].tobytes())
    assert decoded(root / 'dot.png').shape == (1, 1, 3)
    (root / 'text.jpg').write_text('no picture any more')
    for name in ('text.jpg', 'absent.jpg'):
        assert thumbnail(root / name) is None
