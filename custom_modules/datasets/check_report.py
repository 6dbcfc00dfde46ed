"""How the findings of a check are shown: as text, CSV, JSON and a page with pictures. Nothing is checked here."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from custom_modules.datasets.dataset_checks import (
    ERROR,
    KINDS,
    NOTE,
    WARNING,
    CheckReport,
    Finding,
    weights_option,
)
from custom_modules.files import printable
from custom_modules.pages import render
from custom_modules.photos.thumbnails import thumbnail

FIELDS = ('finding', 'kind', 'severity', 'path', 'detail', 'advice')

_TEXT_LINES = 3  # findings of a kind in the summary
_PAGE_FINDINGS, _PAGE_PHOTOS = 24, 6  # findings of a kind on the page, photos of a finding
_THUMBNAIL_EDGE = 200  # pixels
_NO_PICTURE = ('empty', 'broken', 'left_out')  # a bomb would fill the memory, a named pipe would be waited for
_HEADINGS = {ERROR: 'to mend', WARNING: 'to look at', NOTE: 'harmless'}


def format_text(report: CheckReport) -> str:
    """Returns the summary for a terminal: counts, and for each kind the first findings and what to do."""
    lines = _class_table(report)
    for severity, heading in _HEADINGS.items():
        for kind, findings in report.by_kind.items():
            if KINDS[kind].severity == severity:
                lines += ['', f'{heading}: {KINDS[kind].title}: {_count(findings)}{_classes_of(report, findings)}']
                lines += [f'    {_line(finding)}' for finding in findings[:_TEXT_LINES]]
                if len(findings) > _TEXT_LINES:
                    lines.append(f'    and {_count(findings[_TEXT_LINES:])} more')
                lines.append(f'  > {_advice(report, kind)}')
    lines += ['', verdict(report)]
    return '\n'.join(printable(line) for line in lines)  # a name may hold what moves the cursor


def verdict(report: CheckReport) -> str:
    """Returns one line: how many findings of which weight."""
    counts = {severity: sum(_count(found) for _, found in _of(report, severity)) for severity in _HEADINGS}
    if not report.findings:
        return 'nothing found'
    return ', '.join(f'{count} {_HEADINGS[severity]}' for severity, count in counts.items() if count)


def rows(report: CheckReport) -> list[dict[str, Any]]:
    """Returns a dict for each photo of each finding, with :data:`FIELDS`; those of one finding share its number."""
    return [
        {
            'finding': number,
            'kind': finding.kind,
            'severity': KINDS[finding.kind].severity,
            'path': path,
            'detail': finding.detail,
            'advice': _advice(report, finding.kind),
        }
        for number, finding in enumerate(report.findings, 1)
        for path in finding.paths or ('',)
    ]


def format_report(report: CheckReport, suffix: str) -> str:
    """Returns the report as one of :data:`~custom_modules.report_file.SUFFIXES` has it."""
    return {'.html': format_html, '.csv': format_csv, '.json': format_json}[suffix.lower()](report)


def format_csv(report: CheckReport) -> str:
    """Returns :func:`rows` as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows(report))
    return text.getvalue()


def format_json(report: CheckReport) -> str:
    """Returns everything as JSON: what was checked, the class weights, and the findings."""
    content = {
        'data': report.data,
        'prepared': report.prepared,
        'photos': report.photos,
        'counts': report.counts,
        'class_weights': report.class_weights,
        'summary': {kind: _count(findings) for kind, findings in report.by_kind.items()},
        'findings': [
            {
                'kind': finding.kind,
                'severity': KINDS[finding.kind].severity,
                'paths': list(finding.paths),
                'detail': finding.detail,
                'count': finding.count,
                'advice': _advice(report, finding.kind),
            }
            for finding in report.findings
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + '\n'


def format_html(report: CheckReport) -> str:
    """Returns a page that stands for itself: styles and pictures are inside, nothing is fetched."""
    kinds: list[dict[str, Any]] = [
        {
            'kind': kind,
            'title': KINDS[kind].title,
            'severity': severity,
            'heading': _HEADINGS[severity],
            'advice': _advice(report, kind),
            'count': _count(findings),
            'classes': _classes_of(report, findings).strip(' ()'),
            'findings': [
                {
                    'detail': finding.detail,
                    'paths': finding.paths[:_PAGE_PHOTOS],
                    'more': max(0, len(finding.paths) - _PAGE_PHOTOS),
                }
                for finding in shown
            ],
            'more': _count(findings) - _count(shown),
        }
        for severity in _HEADINGS
        for kind, findings in _of(report, severity)
        for shown in [findings[:: -(-len(findings) // _PAGE_FINDINGS)]]  # of all classes, not of the first alone
    ]
    pictured = sorted({path for kind in kinds for finding in kind['findings'] for path in finding['paths']})
    totals = {label: sum(side[label] for side in report.counts.values()) for label in report.class_weights}
    return render(
        Path(__file__).with_name('check_report.html'),
        name=Path(os.path.abspath(report.data)).name,
        report=report,
        verdict=verdict(report),
        kinds=kinds,
        totals=totals,
        most=max(totals.values(), default=0) or 1,
        option=weights_option(report.class_weights.values()),
        thumbnails=_thumbnails(report, pictured),
    )


def _thumbnails(report: CheckReport, paths: Iterable[str]) -> dict[str, str | None]:
    """Returns a small picture of each photo as a ``data:`` address; None for what cannot or must not be opened."""
    unopened = {path for finding in report.findings if finding.kind in _NO_PICTURE for path in finding.paths}
    return {path: None if path in unopened else thumbnail(Path(report.data) / path, _THUMBNAIL_EDGE) for path in paths}


def _class_table(report: CheckReport) -> list[str]:
    sides = list(report.counts)
    labels = list(report.class_weights)
    width = max(len(label) for label in [*labels, 'class', 'total'])
    table = [
        f'{"class":<{width}}' + ''.join(f'{side or "photos":>9}' for side in sides) + f'{"weight":>9}',
        *(
            f'{label:<{width}}'
            + ''.join(f'{report.counts[side][label]:>9}' for side in sides)
            + f'{report.class_weights[label]:>9.3f}'
            for label in labels
        ),
        f'{"total":<{width}}' + ''.join(f'{sum(report.counts[side].values()):>9}' for side in sides),
    ]
    return table


def _of(report: CheckReport, severity: str) -> list[tuple[str, list[Finding]]]:
    return [(kind, found) for kind, found in report.by_kind.items() if KINDS[kind].severity == severity]


def _count(findings: Sequence[Finding]) -> int:
    return sum(finding.count for finding in findings)


def _advice(report: CheckReport, kind: str) -> str:
    advice = KINDS[kind].advice
    return f'{advice}: {weights_option(report.class_weights.values())}' if kind == 'imbalance' else advice


def _line(finding: Finding) -> str:
    shown = ' = '.join(finding.paths[:_TEXT_LINES])
    if len(finding.paths) > _TEXT_LINES:
        shown += f' = and {len(finding.paths) - _TEXT_LINES} more'
    return f'{shown} ({finding.detail})' if shown and finding.detail else shown or finding.detail


def _classes_of(report: CheckReport, findings: Sequence[Finding]) -> str:
    """Returns how many findings of single photos each class has, where they are many: one class may stand out."""
    labels = Counter(PurePosixPath(finding.paths[0]).parent.name for finding in findings if len(finding.paths) == 1)
    if sum(labels.values()) < 2 * len(report.class_weights):
        return ''
    return f' ({", ".join(f"{label} {labels[label]}" for label in report.class_weights if labels[label])})'
