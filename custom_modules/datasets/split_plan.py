"""Plans a split into train, val and folds: a pure function of names, near-duplicates, ratio and seed."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from custom_modules.datasets.annotation import SIDES, Sample, label_photos, refuse


@dataclass(frozen=True)
class Plan:
    """The subset of each photo.

    Args:
        sides: For ``train`` and ``val``, sorted photo names by class, classes sorted.
        ratio: Share of each class that goes to train, in (0, 1).
        seed: What the order was drawn from.
        groups: The ``class/image`` that stay in one subset.
        folds: The part of ``train`` that validates, for each fold; empty without folds.
    """

    sides: dict[str, dict[str, list[str]]]
    ratio: float
    seed: int
    groups: list[list[str]] = field(default_factory=list)
    folds: list[list[Sample]] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return list(self.sides['train'])

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Number of photos by side and class."""
        return {side: {name: len(images) for name, images in photos.items()} for side, photos in self.sides.items()}

    def samples(self, side: str) -> list[Sample]:
        """Returns the annotation of one side."""
        return label_photos(self.sides[side], self.classes)


def plan_split(
    photos: Mapping[str, Iterable[str]], ratio: float = 0.8, seed: int = 0, groups: Sequence[Sequence[str]] = ()
) -> Plan:
    """Plans which photos go to train: ``floor(ratio * n)`` of each class, near-duplicates in one subset.

    Groups are placed first, largest first: each in the subset that its seeded hash draws, with the ratio as the
    probability of train, or in the other one if it does not fit. The first photos in the order of a seeded hash then
    fill train. The count is missed only if a group has more photos of a class than there are outside groups, by half
    of the difference at most, or if groups extend over several classes.

    The order does not depend on the file system, and a new photo does not change the order of the others. The ratio
    counts as the decimal that it is written as: 0.7 of 10 is 7.

    Args:
        photos: Photo names by class.
        ratio: Share of each class that goes to train, in (0, 1).
        seed: What the order is drawn from.
        groups: The ``class/image`` that stay in one subset; no photo is in two.

    Raises:
        InputError: When the ratio is not in (0, 1), or a class would be missing in one subset.
    """
    if problems := ratio_problems(ratio):
        refuse(problems)
    problems = class_problems(photos)
    order = {name: sorted(photos[name], key=lambda image: _hash(f'{seed}/{name}/{image}')) for name in sorted(photos)}
    share = Fraction(str(ratio))
    targets = {name: int(share * len(images)) for name, images in order.items()}
    units = sorted((sorted(group) for group in groups), key=lambda group: (-len(group), group))
    side_of = _place_groups(units, {name: len(images) for name, images in order.items()}, targets, share, seed)
    sides: dict[str, dict[str, list[str]]] = {side: {} for side in SIDES}
    for name, images in order.items():
        grouped = [side_of[path] for image in images if (path := f'{name}/{image}') in side_of]
        free = max(0, targets[name] - grouped.count('train'))
        single = [image for image in images if f'{name}/{image}' not in side_of]
        side_of |= {f'{name}/{image}': 'train' if i < free else 'val' for i, image in enumerate(single)}
        for side in SIDES:
            sides[side][name] = sorted(image for image in images if side_of[f'{name}/{image}'] == side)
        counts = [len(sides[side][name]) for side in SIDES]
        if not all(counts):
            hint = '; near-duplicates stay in one subset' if grouped else ''
            problems.append(
                f'class {name!r}: {sum(counts)} photo(s) at ratio {ratio} give {counts[0]} to train and '
                f'{counts[1]} to val, and each needs one{hint}: add photos or change the ratio'
            )
    if problems:
        refuse(problems)
    return Plan(sides, ratio, seed, sorted(units))


def _place_groups(
    groups: Sequence[Sequence[str]], sizes: Mapping[str, int], targets: Mapping[str, int], share: Fraction, seed: int
) -> dict[str, str]:
    """The subset of each photo in a group; ``targets`` are the sizes of the classes in train."""
    limits = {'train': targets, 'val': {name: sizes[name] - targets[name] for name in sizes}}
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


def plan_folds(plan: Plan, folds: int) -> Plan:
    """Deals the photos of train into folds, near-duplicates into one; of each class, evenly, as far as groups allow.

    Groups come first, the largest first, then the other photos in the order of a seeded hash; each goes to the fold
    that has the fewest photos of its class, then the fewest in all.

    Raises:
        InputError: For fewer than two folds, or when a fold would lack a class.
    """
    if problems := fold_problems(folds):
        refuse(problems)
    samples = {sample.path: sample for sample in plan.samples('train')}
    grouped = {path for group in plan.groups for path in group}
    singles = sorted(samples.keys() - grouped, key=lambda path: _hash(f'{plan.seed}/fold/{path}'))
    units = sorted((group for group in plan.groups if group[0] in samples), key=lambda group: (-len(group), group))
    units += [[path] for path in singles]
    dealt: list[list[Sample]] = [[] for _ in range(folds)]
    counts: list[Counter[str]] = [Counter() for _ in range(folds)]
    for unit in units:
        size = Counter(path.split('/')[0] for path in unit)

        def load(fold: int, size: Counter[str] = size) -> tuple[int, int, int]:
            return sum(counts[fold][name] for name in size), len(dealt[fold]), fold

        fold = min(range(folds), key=load)
        counts[fold].update(size)
        dealt[fold] += [samples[path] for path in unit]
    problems = [
        f'class {name!r}: its {len(plan.sides["train"][name])} photo(s) in train, near-duplicates together, do not '
        f'reach for {folds} folds: choose fewer or add photos'
        for name in plan.classes
        if not all(count[name] for count in counts)
    ]
    if problems:
        refuse(problems)
    return replace(plan, folds=[sorted(part) for part in dealt])


def ratio_problems(ratio: float) -> list[str]:
    """Says why a number cannot be the share of train; nothing when it can."""
    return [] if 0 < ratio < 1 else [f'ratio {ratio} is not between 0 and 1; 0.8 sends four of five photos to train']


def fold_problems(folds: int) -> list[str]:
    """Says why a number cannot be that of the folds; nothing when it can."""
    return [] if folds >= 2 else [f'{folds} folds: two or more are needed']


def class_problems(classes: Collection[str]) -> list[str]:
    """Says why a dataset cannot have these classes; nothing when it can."""
    return [] if len(classes) >= 2 else [f'two or more classes are needed, found: {", ".join(classes) or "none"}']


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
