"""Decides which photos to keep: unreadable and repeated ones are left out, near-duplicates are grouped."""

from dataclasses import replace
from pathlib import Path

from custom_modules.datasets.annotation import refuse
from custom_modules.datasets.raw_folders import LeftOut, Scan
from custom_modules.files import printable
from custom_modules.photos.fingerprint import fingerprint_all, group_near_duplicates
from custom_modules.progress import Progress


def compare_photos(raw: Path, scan: Scan, workers: int | None = None, progress: Progress | None = None) -> Scan:
    """Opens all photos of a scan in parallel processes; returns those to keep, with fingerprints and groups.

    Raises:
        InputError: Nothing is left of a class.
    """
    names = {path: printable(source) for path, source in scan.sources.items()}
    paths = [f'{name}/{image}' for name, images in scan.photos.items() for image in images]
    step = None if progress is None else lambda done, total: progress('comparing', done, total)
    found = fingerprint_all([raw / scan.sources[path] for path in paths], workers, step)
    fingerprints = dict(zip(paths, found, strict=True))
    copies: dict[str, list[str]] = {}  # photos of the same content, sorted by name
    reasons: dict[str, str] = {}
    for path, item in sorted(fingerprints.items(), key=lambda pair: pair[0]):
        if item.problem is not None:
            reasons[path] = item.problem
        else:
            copies.setdefault(str(item.sha256), []).append(path)
    for same in copies.values():
        conflict = len({_class_of(path) for path in same}) > 1
        for path in same if conflict else same[1:]:
            other = next(other for other in same if not conflict or _class_of(other) != _class_of(path))
            reasons[path] = f'same content as {names[other]}{", of another class" if conflict else ""}'
    kept = sorted(fingerprints.keys() - reasons.keys())
    problems = []
    for name in sorted({_class_of(path) for path in paths} - {_class_of(path) for path in kept}):
        gone = sorted(path for path in paths if _class_of(path) == name)
        problems.append(
            f'class {name!r}: none of its {len(gone)} photo(s) can be used, as {names[gone[0]]} '
            f'({reasons[gone[0]]}): add photos or remove the class'
        )
    refuse(problems)
    left_out = [LeftOut(names[path], reason) for path, reason in reasons.items()]
    groups = group_near_duplicates([fingerprints[path].phash for path in kept])
    return replace(
        scan,
        sources={path: scan.sources[path] for path in kept},
        left_out=sorted(scan.left_out + left_out),
        fingerprints={path: fingerprints[path] for path in kept},
        groups=[[kept[position] for position in group] for group in groups],
    )


def _class_of(path: str) -> str:
    return path.split('/')[0]
