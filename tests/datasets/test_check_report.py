"""Findings as text, CSV, JSON, and a page that fetches nothing."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
from html_elements import Elements, assert_self_contained
from PIL import Image

from custom_modules.datasets.check_report import format_report, format_text, verdict
from custom_modules.datasets.dataset_checks import KINDS, CheckReport, Finding, check_dataset


@pytest.fixture(scope='module')
def report(tmp_path_factory, draw) -> CheckReport:
    """Two classes with a copy, a conflict, a broken photo, a grey one, and one with a hostile name."""
    raw = tmp_path_factory.mktemp('raw')
    for number, name in enumerate(('daisy', 'rose')):
        (raw / name).mkdir()
        for seed in range(3):
            draw(100 * number + seed).save(raw / name / f'{seed}.png')
    draw(0).save(raw / 'daisy' / 'copy.png')
    draw(1).save(raw / 'rose' / 'conflict.png')
    draw(8).convert('L').save(raw / 'rose' / 'grey.png')
    (raw / 'rose' / '"><img src=x onerror=alert(1)>.png').write_text('no picture')
    return check_dataset(raw, crop=32)


def made_up(*findings: Finding, data: Path = Path('x'), **counts: int) -> CheckReport:
    return CheckReport(str(data), False, {'': counts}, list(findings))


def test_text_has_counts_findings_and_advice(report):
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


def test_text_is_short_and_safe_to_print():
    many = [Finding('grey', (f'rose/{number}.jpg',)) for number in range(40)]
    text = format_text(made_up(*many, Finding('dark', ('rose/\x1b[2Jred.jpg',)), daisy=1, rose=40))
    assert 'note: without colour: 40 (rose 40)' in text
    assert '    and 37 more' in text
    assert 'rose/\\x1b[2Jred.jpg' in text
    assert format_text(made_up(daisy=1)).endswith('\n\nnothing found')


def test_csv_has_a_row_per_photo_and_json_has_everything(report):
    rows = list(csv.DictReader(io.StringIO(format_report(report, '.csv'))))
    assert list(rows[0]) == ['finding', 'kind', 'severity', 'path', 'detail', 'advice']
    conflict = [row for row in rows if row['kind'] == 'conflict_content']
    assert [row['path'] for row in conflict] == ['daisy/1.png', 'rose/conflict.png']
    assert len({row['finding'] for row in conflict}) == 1
    assert all(row['advice'] and row['severity'] == KINDS[row['kind']].severity for row in rows)
    content = json.loads(format_report(report, '.json'))
    assert (content['photos'], content['prepared']) == (10, False)
    assert content['counts'] == {'': {'daisy': 4, 'rose': 6}}
    assert content['class_weights'] == {'daisy': 1.25, 'rose': 0.833}
    assert content['summary'] == {'broken': 1, 'conflict_content': 1, 'exact_duplicate': 1, 'grey': 1}
    assert {*map(tuple, content['findings'])} == {('kind', 'paths', 'detail', 'count', 'severity', 'advice')}


def test_the_page_is_self_contained(report):
    text = format_report(report, '.html')
    assert_self_contained(text, scripts=0)
    assert 'onerror=alert(1)>.png' not in text  # escaped
    assert len(Elements(text).named('img')) == 5  # two pairs and the grey one
    assert text.count('no picture</div>') == 1
    for title in ('Same content in two classes: 1', 'Same content twice in a class: 1'):
        assert title in text


def test_the_page_opens_no_pipe_and_no_decompression_bomb(tmp_path):
    (tmp_path / 'rose').mkdir()
    os.mkfifo(tmp_path / 'rose' / 'pipe.png')
    Image.new('1', (10_000, 10_000)).save(tmp_path / 'rose' / 'bomb.png')
    kinds = {'left_out': 'pipe', 'broken': 'bomb', 'grey': 'gone'}
    found = [Finding(kind, (f'rose/{name}.png',)) for kind, name in kinds.items()]
    text = format_report(made_up(*found, data=tmp_path, rose=3), '.html')
    assert text.count('no picture</div>') == 3
