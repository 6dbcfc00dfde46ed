"""Which photos of a folder to keep: what cannot be read or repeats is left out, what looks alike is grouped.

Opening and comparing pictures is duplicates.py's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from custom_modules.datasets.annotation import refuse
from custom_modules.datasets.raw_folders import LeftOut, Scan
from custom_modules.files import printable
from custom_modules.photos.fingerprint import Fingerprint, fingerprint_all, group_near_duplicates
from custom_modules.progress import Progress


@dataclass(frozen=True)
class Comparison:
    """What opening and comparing the photos of a scan found.

    Args:
        photos: The photos to keep: sorted names by class, classes sorted.
        left_out: Unreadable photos and repeated content, sorted by path.
        fingerprints: Of each photo to keep, by ``class/image``.
        groups: Near-duplicates among them: two or more ``class/image`` each, sorted.
    """

    photos: dict[str, list[str]]
    left_out: list[LeftOut]
    fingerprints: dict[str, Fingerprint]
    groups: list[list[str]]


def compare_photos(raw: Path, scan: Scan, workers: int | None = None, progress: Progress | None = None) -> Comparison:
    """Opens every photo of a scan, on all cores: which cannot be read, which repeat, which look alike.

    Raises:
        InputError: When nothing is left of a class.
    """
    paths = [f'{name}/{image}' for name, images in scan.photos.items() for image in images]
    step = None if progress is None else lambda done, total: progress('comparing', done, total)
    found = fingerprint_all([raw / scan.sources[path] for path in paths], workers, step)
    return compare_fingerprints(dict(zip(paths, found, strict=True)), scan.sources)


def compare_fingerprints(fingerprints: Mapping[str, Fingerprint], sources: Mapping[str, str]) -> Comparison:
    """Decides which photos to keep, and groups those.

    Args:
        fingerprints: Of each photo, by ``class/image``.
        sources: What each photo is called in what is left out, by ``class/image``.

    Raises:
        InputError: When nothing is left of a class.
    """
    copies: dict[str, list[str]] = {}  # of the same content, sorted by name
    left_out, kept = [], []
    for path in sorted(fingerprints):
        item = fingerprints[path]
        if item.problem is not None:
            left_out.append(LeftOut(printable(sources[path]), item.problem))
        else:
            copies.setdefault(str(item.sha256), []).append(path)
    for same in copies.values():
        conflict = len({path.split('/')[0] for path in same}) > 1
        if not conflict:
            kept.append(same[0])
        for path in same if conflict else same[1:]:
            other = next(other for other in same if not conflict or other.split('/')[0] != path.split('/')[0])
            reason = f'same content as {printable(sources[other])}{", of another class" if conflict else ""}'
            left_out.append(LeftOut(printable(sources[path]), reason))
    photos: dict[str, list[str]] = {name: [] for name in sorted({path.split('/')[0] for path in fingerprints})}
    kept.sort()
    for path in kept:
        name, image = path.split('/')
        photos[name].append(image)
    reasons = dict(left_out)
    problems = []
    for name, images in photos.items():
        if not images:
            gone = [printable(sources[path]) for path in sorted(fingerprints) if path.startswith(f'{name}/')]
            problems.append(
                f'class {name!r}: none of its {len(gone)} photo(s) can be used, as {gone[0]} ({reasons[gone[0]]}): '
                'add photos or remove the class'
            )
    if problems:
        refuse(problems)
    groups = group_near_duplicates([fingerprints[path].phash for path in kept])
    return Comparison(
        photos,
        sorted(left_out),
        {path: fingerprints[path] for path in kept},
        [[kept[position] for position in group] for group in groups],
    )
