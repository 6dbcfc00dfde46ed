"""Doubtful labels as one HTML page with their photos in it, for a person to look through. Nothing is judged here.

The page needs no network and no other file; label_issues.html is its template.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from custom_modules.evaluation.label_issues import Suspect
from custom_modules.pages import render
from custom_modules.photos.thumbnails import thumbnail

MAX_CARDS = 1000  # about 20 MB; a browser on a phone still shows it


def render_page(root: Path, photos: int, suspects: Sequence[Suspect], unreadable: Sequence[tuple[str, str]]) -> str:
    """The page as text.

    Args:
        root: The folder that the suspects' paths are relative to.
        photos: Number of photos judged.
        suspects: The most doubtful first; the first thousand are shown.
        unreadable: Path and reason of photos that were not judged.
    """
    pairs = Counter((suspect.label, suspect.suggested) for suspect in suspects)
    return render(
        Path(__file__).with_name('label_issues.html'),
        name=root.resolve().name,
        photos=photos,
        total=len(suspects),
        pairs=[(*pair, count) for pair, count in pairs.most_common()],
        cards=[(suspect, thumbnail(root / suspect.path)) for suspect in suspects[:MAX_CARDS]],
        unreadable=unreadable,
    )
