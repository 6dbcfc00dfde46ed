"""Formats the findings of a check as text, CSV, JSON and a self-contained HTML page."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from custom_modules.datasets.dataset_checks import ERROR, KINDS, NOTE, WARNING, CheckReport, Finding
from custom_modules.files import printable
from custom_modules.pages import render
from custom_modules.photos.thumbnails import thumbnail

_TEXT_LINES = 3  # findings of a kind in the summary
_PAGE_FINDINGS, _PAGE_PHOTOS = 24, 6  # findings of a kind on the page, images of a finding
_THUMBNAIL_EDGE = 200  # pixels


def format_text(report: CheckReport) -> str:
    """The summary for a terminal: counts, and for each kind the first findings and the advice."""
    rows = [['class', *(subset or 'photos' for subset in report.counts), 'weight']]
    for label, weight in report.class_weights.items():
        rows.append([label, *(str(counts[label]) for counts in report.counts.values()), f'{weight:.3f}'])
    rows.append(['total', *(str(sum(counts.values())) for counts in report.counts.values())])
    width = max(len(label) for label, *_ in rows)
    lines = [f'{label:<{width}}{"".join(f"{cell:>9}" for cell in cells)}' for label, *cells in rows]
    for kind, findings in report.by_kind.items():
        severity, title, advice = KINDS[kind]
        by_class = _by_class(report, findings)
        lines += ['', f'{severity}: {title}: {_count(findings)}{f" ({by_class})" if by_class else ""}']
        for paths, detail in ((finding.paths, finding.detail) for finding in findings[:_TEXT_LINES]):
            more = [f'and {len(paths) - _TEXT_LINES} more'] if len(paths) > _TEXT_LINES else []
            shown = ' = '.join([*paths[:_TEXT_LINES], *more])
            lines.append(f'    {shown} ({detail})' if shown and detail else f'    {shown}{detail}')
        if len(findings) > _TEXT_LINES:
            lines.append(f'    and {_count(findings[_TEXT_LINES:])} more')
        lines.append(f'  > {advice}')
    return '\n'.join(printable(line) for line in [*lines, '', verdict(report)])  # names may hold control characters


def verdict(report: CheckReport) -> str:
    """One line: the number of findings of each severity."""
    counts = Counter[str]()
    for finding in report.findings:
        counts[KINDS[finding.kind].severity] += finding.count
    found = [f'{n} {severity}{"s" if n > 1 else ""}' for severity in (ERROR, WARNING, NOTE) if (n := counts[severity])]
    return ', '.join(found) or 'nothing found'


def format_report(report: CheckReport, suffix: str) -> str:
    """The report in the format of one of :data:`~custom_modules.pages.SUFFIXES`.

    JSON has everything: the folder, the class weights and the findings. CSV has a row for each image of each finding,
    whose number they share. HTML is self-contained.
    """
    if suffix.lower() == '.html':
        return _format_html(report)
    findings = []
    for item in report.findings:
        severity, _, advice = KINDS[item.kind]
        findings.append({**asdict(item), 'severity': severity, 'advice': advice})
    if suffix.lower() == '.csv':
        import pandas as pd  # a dependency of CleanVision

        table = pd.DataFrame(findings, columns=['kind', 'severity', 'paths', 'detail', 'advice'])
        table.insert(0, 'finding', range(1, len(findings) + 1))
        return table.explode('paths').rename(columns={'paths': 'path'}).to_csv(index=False)
    content = {
        'data': report.data,
        'prepared': report.prepared,
        'photos': report.photos,
        'counts': report.counts,
        'class_weights': report.class_weights,
        'summary': {kind: _count(findings) for kind, findings in report.by_kind.items()},
        'findings': findings,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + '\n'


def _format_html(report: CheckReport) -> str:
    kinds = []
    pictured: set[str] = set()
    for kind, findings in report.by_kind.items():
        shown = findings[:: -(-len(findings) // _PAGE_FINDINGS)]  # evenly, so that they come from all classes
        pictured.update(path for finding in shown for path in finding.paths[:_PAGE_PHOTOS])
        kinds.append(
            {
                **KINDS[kind]._asdict(),
                'kind': kind,
                'count': _count(findings),
                'classes': _by_class(report, findings),
                'findings': [(item.paths[:_PAGE_PHOTOS], len(item.paths), item.detail) for item in shown],
                'more': _count(findings) - _count(shown),
            }
        )
    return render(
        Path(__file__).with_name('check_report.html'),
        name=Path(os.path.abspath(report.data)).name,
        report=report,
        verdict=verdict(report),
        kinds=kinds,
        totals={label: sum(counts[label] for counts in report.counts.values()) for label in report.class_weights},
        thumbnails={path: thumbnail(Path(report.data) / path, _THUMBNAIL_EDGE) for path in sorted(pictured)},
    )


def _count(findings: Sequence[Finding]) -> int:
    return sum(finding.count for finding in findings)


def _by_class(report: CheckReport, findings: Sequence[Finding]) -> str:
    """Counts per class, if there are many findings of single images: one class may differ."""
    labels = Counter(PurePosixPath(finding.paths[0]).parent.name for finding in findings if len(finding.paths) == 1)
    few = sum(labels.values()) < 2 * len(report.class_weights)
    return '' if few else ', '.join(f'{label} {labels[label]}' for label in report.class_weights if labels[label])
