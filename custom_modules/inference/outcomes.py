"""What became of each photo, a prediction or a problem: counted, named, told. Tables are evaluation's."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from custom_modules.errors import InputError
from custom_modules.files import printable
from custom_modules.inference.sorting import UNSURE
from custom_modules.metrics.predictions import Prediction
from custom_modules.photos.opening import Unreadable


def check_unsure(classes: Sequence[str], min_score: float) -> None:
    """Makes sure that no class has the name of what scores less than ``min_score``, which 0 switches off.

    Raises:
        InputError: One has.
    """
    if min_score and UNSURE in classes:
        raise InputError(f'--min-score {min_score:g}: a class is called {UNSURE!r} itself; give --min-score 0')


class Summary:
    """Names and counts outcomes.

    Args:
        classes: Class names in label order.
        min_score: A prediction with a lower score is ``unsure``.

    Attributes:
        unreadable: The photos that could not be read.
    """

    def __init__(self, classes: Sequence[str], min_score: float = 0.0) -> None:
        self.classes = classes
        self.min_score = min_score
        self.unreadable: list[Unreadable] = []
        self._names: Counter[str] = Counter()

    def name(self, prediction: Prediction) -> tuple[str, str]:
        """The photo's path and the folder it belongs into: its class, or ``unsure``."""
        sure = prediction.scores[prediction.label] >= self.min_score
        return prediction.path, self.classes[prediction.label] if sure else UNSURE

    def watch(self, outcomes: Iterable[Prediction | Unreadable]) -> Iterator[Prediction]:
        """Counts outcomes as they pass, and lets the predictions through."""
        for outcome in outcomes:
            if isinstance(outcome, Unreadable):
                self.unreadable.append(outcome)
            else:
                self._names[self.name(outcome)[1]] += 1
                yield outcome

    def __str__(self) -> str:
        counts = [f'{name} {self._names[name]}' for name in (*self.classes, UNSURE) if name in self._names]
        bad = f'; {len(self.unreadable)} unreadable' if self.unreadable else ''
        return f'{self._names.total()} photos: {", ".join(counts) or "none"}{bad}'


def format_line(prediction: Prediction, classes: Sequence[str], top_k: int) -> str:
    """One photo with its ``top_k`` classes, the best first, and their scores."""
    best = sorted(range(len(classes)), key=lambda label: -prediction.scores[label])[:top_k]
    return '  '.join([printable(prediction.path), *(f'{classes[k]} {prediction.scores[k]:.4f}' for k in best)])
