"""Plans a split into train, val and folds: pure functions of names, near-duplicates, ratio and seed."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from custom_modules.datasets.annotation import SIDES, Sample
from custom_modules.errors import refuse


def plan_split(
    photos: Mapping[str, Iterable[str]], ratio: float = 0.8, seed: int = 0, groups: Sequence[Sequence[str]] = ()
) -> dict[str, dict[str, list[str]]]:
    """Returns the photo names of train and val by class, all sorted, from the photo names by class.

    ``floor(ratio * n)`` photos of each class go to train, and groups of near-duplicates into one subset.

    Groups are placed first, largest first: each in the subset that its seeded hash draws, with the ratio as the
    probability of train, or in the other one if it does not fit. The first photos in the order of a seeded hash then
    fill train. The count deviates only if a group is larger than the rest of its class, by half of the difference at
    most, or if groups span several classes.

    The order does not depend on the file system, and a new photo does not change the order of the others. The ratio
    counts as the decimal that it is written as: 0.7 of 10 is 7. No photo may be in two of the groups.

    Raises:
        InputError: A class would be missing in one subset.
    """
    order = {name: sorted(photos[name], key=lambda image: _hash(f'{seed}/{name}/{image}')) for name in sorted(photos)}
    sizes = {name: len(images) for name, images in order.items()}
    share = Fraction(str(ratio))
    side_of = _place_groups(_largest_first(groups), sizes, share, seed)
    sides: dict[str, dict[str, list[str]]] = {side: {} for side in SIDES}
    problems = []
    for name, images in order.items():
        train = {image for image in images if side_of.get(f'{name}/{image}') == 'train'}
        single = [image for image in images if f'{name}/{image}' not in side_of]
        train.update(single[: max(0, int(share * sizes[name]) - len(train))])
        sides['train'][name], sides['val'][name] = sorted(train), sorted(set(images) - train)
        if not 0 < len(train) < sizes[name]:
            hint = ', with near-duplicates in one subset' if len(single) < sizes[name] else ''
            problems.append(
                f'class {name!r}: {sizes[name]} photo(s) at ratio {ratio} give {len(train)} to train and '
                f'{sizes[name] - len(train)} to val, and each needs one{hint}. Add photos or change the ratio.'
            )
    refuse(problems)
    return sides


def _place_groups(
    groups: Sequence[Sequence[str]], sizes: Mapping[str, int], share: Fraction, seed: int
) -> dict[str, str]:
    """The subset of each photo in a group; ``sizes`` are the numbers of photos by class."""
    train = {name: int(share * size) for name, size in sizes.items()}
    limits = {'train': train, 'val': {name: sizes[name] - train[name] for name in sizes}}
    placed: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    side_of: dict[str, str] = {}
    for group in groups:
        size = Counter(path.split('/')[0] for path in group)
        drawn = int.from_bytes(_hash(f'{seed}/{group[0]}'), 'big') < share * 2**256
        excess = {
            side: sum(max(0, placed[side][name] + n - limits[side][name]) for name, n in size.items())
            for side in (SIDES if drawn else SIDES[::-1])  # the first of equals wins
        }
        side = min(excess, key=excess.__getitem__)
        placed[side].update(size)
        side_of.update(dict.fromkeys(group, side))
    return side_of


def plan_folds(
    train: Iterable[Sample], folds: int, seed: int = 0, groups: Iterable[Sequence[str]] = ()
) -> list[list[Sample]]:
    """Deals the samples of train into folds, near-duplicates into one; of each class, evenly, as far as groups allow.

    Groups come first, the largest first, then the other photos in the order of a seeded hash; each goes to the fold
    that has the fewest photos of its class, then the fewest in all.

    Raises:
        InputError: A fold would lack a class.
    """
    samples = {sample.path: sample for sample in train}
    units = _largest_first(group for group in groups if group[0] in samples)
    single = samples.keys() - {path for group in units for path in group}
    units += [[path] for path in sorted(single, key=lambda path: _hash(f'{seed}/fold/{path}'))]
    dealt: list[list[Sample]] = [[] for _ in range(folds)]
    counts: list[Counter[str]] = [Counter() for _ in range(folds)]
    for unit in units:
        size = Counter(path.split('/')[0] for path in unit)
        loads = [(sum(count[name] for name in size), len(part)) for count, part in zip(counts, dealt, strict=True)]
        fold = loads.index(min(loads))
        counts[fold].update(size)
        dealt[fold] += [samples[path] for path in unit]
    totals = Counter(path.split('/')[0] for path in samples)
    refuse(
        [
            f'class {name!r}: its {totals[name]} photo(s) in train, near-duplicates together, do not suffice for '
            f'{folds} folds. Choose fewer or add photos.'
            for name in sorted(totals)
            if not all(count[name] for count in counts)
        ]
    )
    return [sorted(part) for part in dealt]


def _largest_first(groups: Iterable[Sequence[str]]) -> list[list[str]]:
    return sorted((sorted(group) for group in groups), key=lambda group: (-len(group), group))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
