"""Decides which photos to keep: unreadable and repeated ones are left out, near-duplicates are grouped."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from custom_modules.datasets.annotation import refuse
from custom_modules.datasets.raw_folders import LeftOut, Scan
from custom_modules.files import printable
from custom_modules.photos.fingerprint import Fingerprint, fingerprint_all, group_near_duplicates
from custom_modules.progress import Progress


@dataclass(frozen=True)
class Comparison:
    """The result of opening and comparing photos.

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
    """Opens all photos of a scan in parallel processes, decides which to keep, and groups those.

    Raises:
        InputError: Nothing is left of a class.
    """
    sources = scan.sources
    paths = [f'{name}/{image}' for name, images in scan.photos.items() for image in images]
    step = None if progress is None else lambda done, total: progress('comparing', done, total)
    found = fingerprint_all([raw / sources[path] for path in paths], workers, step)
    fingerprints = dict(zip(paths, found, strict=True))
    copies: dict[str, list[str]] = {}  # photos of the same content, sorted by name
    left_out = []
    for path in sorted(fingerprints):
        item = fingerprints[path]
        if item.problem is not None:
            left_out.append(LeftOut(printable(sources[path]), item.problem))
        else:
            copies.setdefault(str(item.sha256), []).append(path)
    kept = []
    for same in copies.values():
        conflict = len({_class_of(path) for path in same}) > 1
        if not conflict:
            kept.append(same[0])
        for path in same if conflict else same[1:]:
            other = next(other for other in same if not conflict or _class_of(other) != _class_of(path))
            reason = f'same content as {printable(sources[other])}{", of another class" if conflict else ""}'
            left_out.append(LeftOut(printable(sources[path]), reason))
    kept.sort()
    photos: dict[str, list[str]] = {name: [] for name in sorted({_class_of(path) for path in fingerprints})}
    for path in kept:
        photos[_class_of(path)].append(path.split('/')[1])
    _refuse_empty_classes(photos, fingerprints, sources, dict(left_out))
    groups = group_near_duplicates([fingerprints[path].phash for path in kept])
    return Comparison(
        photos,
        sorted(left_out),
        {path: fingerprints[path] for path in kept},
        [[kept[position] for position in group] for group in groups],
    )


def _refuse_empty_classes(
    photos: Mapping[str, list[str]], paths: Iterable[str], sources: Mapping[str, str], reasons: Mapping[str, str]
) -> None:
    problems = []
    for name in (name for name, images in photos.items() if not images):
        gone = [printable(sources[path]) for path in sorted(paths) if _class_of(path) == name]
        problems.append(
            f'class {name!r}: none of its {len(gone)} photo(s) can be used, as {gone[0]} ({reasons[gone[0]]}): '
            'add photos or remove the class'
        )
    if problems:
        refuse(problems)


def _class_of(path: str) -> str:
    return path.split('/')[0]
