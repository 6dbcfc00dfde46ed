"""Doubtful labels as a report: an HTML gallery with the photos in it, CSV or JSON."""

import csv
import io
import json
from collections import Counter
from pathlib import Path

from custom_modules.evaluation.label_issues import LabelIssues
from custom_modules.pages import render
from custom_modules.photos.thumbnails import thumbnail

MAX_CARDS = 1000  # about 20 MB, which a browser on a phone still shows


def format_issues(issues: LabelIssues, suffix: str) -> str:
    """The report as text: ``'.html'``, ``'.csv'`` or ``'.json'``."""
    if suffix == '.html':
        return render_page(issues)
    columns = ['path', 'label', 'suggested', 'score', 'label_score']
    rows = [
        {name: getattr(suspect, name) for name in columns}
        | {f'score_{name}': score for name, score in suspect.scores.items()}
        for suspect in issues.suspects
    ]
    if suffix == '.json':
        unreadable = [{'path': path, 'reason': reason} for path, reason in issues.unreadable]
        return json.dumps({'suspects': rows, 'unreadable': unreadable}, indent=1, ensure_ascii=False) + '\n'
    text = io.StringIO()
    scores = [f'score_{name}' for name in issues.data.classes]
    writer = csv.DictWriter(text, [*columns, *scores], lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def render_page(issues: LabelIssues) -> str:
    """The gallery, which needs no network and no other file; it shows the first thousand suspects."""
    suspects, root = issues.suspects, issues.data.root
    pairs = Counter((suspect.label, suspect.suggested) for suspect in suspects)
    return render(
        Path(__file__).with_name('label_issues.html'),
        name=root.resolve().name,
        photos=issues.readable,
        total=len(suspects),
        pairs=[(*pair, count) for pair, count in pairs.most_common()],
        cards=[(suspect, thumbnail(root / suspect.path)) for suspect in suspects[:MAX_CARDS]],
        unreadable=issues.unreadable,
    )
