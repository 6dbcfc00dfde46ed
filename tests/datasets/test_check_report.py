"""How findings are shown: text, CSV, JSON, and a page that fetches nothing."""

import csv
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from custom_modules.datasets.check_report import (
    FIELDS,
    format_csv,
    format_html,
    format_json,
    format_text,
    verdict,
)
from custom_modules.datasets.dataset_checks import KINDS, CheckReport, Finding, check_dataset


@pytest.fixture
def folder(tmp_path: Path, draw) -> Path:
    """Two classes with a copy, a conflict, a broken photo, a grey one, and one with a hostile name."""
    for number, name in enumerate(('daisy', 'rose')):
        (tmp_path / 'raw' / name).mkdir(parents=True)
        for seed in range(3):
            draw(100 * number + seed).save(tmp_path / 'raw' / name / f'{seed}.png')
    draw(0).save(tmp_path / 'raw' / 'daisy' / 'copy.png')
    draw(1).save(tmp_path / 'raw' / 'rose' / 'conflict.png')
    draw(8).convert('L').save(tmp_path / 'raw' / 'rose' / 'grey.png')
    (tmp_path / 'raw' / 'rose' / '"><img src=x onerror=alert(1)>.png').write_text('no picture')
    return tmp_path / 'raw'


@pytest.fixture
def report(folder: Path) -> CheckReport:
    return check_dataset(folder, crop=32)


def test_text_counts_names_and_says_what_to_do(report):
    text = format_text(report)
    lines = text.splitlines()
    assert lines[:4] == [
        'class   photos   weight',
        'daisy        4    1.250',
        'rose         6    0.833',
        'total       10',
    ]
    assert 'error: same content in two classes: 1' in lines
    assert '    daisy/1.png = rose/conflict.png' in lines
    assert text.count('  > ') == len(report.by_kind) == 4
    assert lines[-1] == verdict(report) == '2 errors, 1 warning, 1 note'


def test_text_shows_the_first_of_many_and_the_classes_that_stand_out():
    many = [Finding('grey', (f'rose/{number}.jpg',)) for number in range(40)]
    text = format_text(CheckReport('x', False, {'': {'daisy': 1, 'rose': 40}}, many))
    assert 'note: without colour: 40 (rose 40)' in text
    assert '    and 37 more' in text


def test_text_escapes_names_that_move_the_cursor():
    found = [Finding('dark', ('rose/\x1b[2Jred.jpg',))]
    assert 'rose/\\x1b[2Jred.jpg' in format_text(CheckReport('x', False, {'': {'rose': 1}}, found))


def test_text_of_no_findings():
    assert format_text(CheckReport('x', False, {'': {'daisy': 1}})).endswith('\n\nnothing found')


def test_csv_has_a_row_a_photo(report):
    rows = list(csv.DictReader(io.StringIO(format_csv(report))))
    assert tuple(rows[0]) == FIELDS
    conflict = [row for row in rows if row['kind'] == 'conflict_content']
    assert [row['path'] for row in conflict] == ['daisy/1.png', 'rose/conflict.png']
    assert len({row['finding'] for row in conflict}) == 1
    assert all(row['advice'] and row['severity'] == KINDS[row['kind']].severity for row in rows)


def test_json_has_everything(report):
    content = json.loads(format_json(report))
    assert (content['photos'], content['prepared']) == (10, False)
    assert content['counts'] == {'': {'daisy': 4, 'rose': 6}}
    assert content['class_weights'] == {'daisy': 1.25, 'rose': 0.833}
    assert content['summary'] == {'broken': 1, 'conflict_content': 1, 'exact_duplicate': 1, 'grey': 1}
    assert {tuple(item) for item in content['findings']} == {
        ('kind', 'severity', 'paths', 'detail', 'count', 'advice')
    }


class Page(HTMLParser):
    """Collects the tags of a page, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ('src', 'href', 'srcset', 'action', 'data')]


def test_the_page_stands_for_itself(report):
    text = format_html(report)
    page = Page(text)
    assert all(reference.startswith(('#', 'data:image/jpeg;base64,')) for reference in page.references)
    assert not {'script', 'link', 'iframe', 'object'} & set(page.tags)
    assert not re.search(r'https?:|@import|url\(', re.sub(r'base64,[^"]*', '', text))
    assert 'onerror=alert(1)>.png' not in text  # escaped
    assert page.tags.count('img') == 5  # two pairs and the grey one
    assert text.count('no picture</div>') == 1
    for title in ('Same content in two classes: 1', 'Same content twice in a class: 1'):
        assert title in text


def test_the_page_opens_no_pipe_and_nothing_that_was_found_broken(folder):
    os.mkfifo(folder / 'rose' / 'pipe.png')
    (folder / 'rose' / '0.png').unlink()
    found = [
        Finding('left_out', ('rose/pipe.png',)),
        Finding('broken', ('rose/1.png',)),
        Finding('grey', ('rose/0.png',)),
    ]
    text = format_html(CheckReport(str(folder), False, {'': {'rose': 3}}, found))
    assert text.count('no picture</div>') == 3


def test_of_many_findings_the_page_shows_some_of_each_class(folder):
    found = [Finding('small', (f'{label}/{number}.png',)) for label in ('daisy', 'rose') for number in range(50)]
    text = format_html(CheckReport(str(folder), False, {'': {'daisy': 50, 'rose': 50}}, found))
    assert 10 <= text.count('<figcaption><b>daisy</b>') <= 12
    assert 10 <= text.count('<figcaption><b>rose</b>') <= 12
    assert 'And 80 more' in text
