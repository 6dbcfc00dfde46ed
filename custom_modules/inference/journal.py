"""A long prediction's outcomes, kept beside its output as they come, so that a killed one goes on from there."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from custom_modules.errors import InputError, said_by
from custom_modules.files import lock_folder, write_atomically
from custom_modules.metrics.predictions import Prediction
from custom_modules.photos.opening import Unreadable
from custom_modules.progress import Progress


class Engine(Protocol):
    """What classifies: a ``Predictor`` or an ``OnnxPredictor``."""

    digest: str
    classes: list[str]
    temperature: float | None

    def predict(
        self, paths: Sequence[str], batch_size: int = 32, workers: int | None = None
    ) -> Iterator[Prediction | Unreadable]:
        """An outcome for each path, in order."""


@dataclass(frozen=True)
class Process:
    """One of the processes that share the photos: its number, how many there are, and how it waits for all."""

    rank: int = 0
    count: int = 1
    barrier: Callable[[], object] = lambda: None


ALONE = Process()


class Journal:
    """Outcomes by the photo's number, in a hidden folder with one file for each process.

    Args:
        folder: The folder; made where it is not there.
        task: Names what is computed from what; only the same task goes on with a journal.

    Raises:
        InputError: The folder belongs to another task, or is damaged.
    """

    def __init__(self, folder: Path, task: str) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        known = folder / 'task'
        if not known.exists():
            write_atomically(known, lambda file: file.write(task.encode()))
        elif known.read_bytes() != task.encode():
            raise InputError(
                f'{folder}: holds the beginning of another prediction, of other photos or another checkpoint; finish '
                'that one, delete the folder, or name another --out'
            )
        self._places: dict[int, tuple[Path, int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Learns what all processes have written; a line that a kill has cut short is none."""
        self._places.clear()
        for path in self.folder.glob('*.jsonl'):
            position = 0
            with path.open('rb') as file:
                for line in file:
                    if line.endswith(b'\n'):
                        self._places[self._outcome(path, line)[0]] = path, position
                    position += len(line)

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def write(self, rank: int, outcomes: Iterable[tuple[int, Prediction | Unreadable]]) -> None:
        """Appends outcomes to the file of process ``rank``, each as it comes."""
        with (self.folder / f'{rank}.jsonl').open('ab+', buffering=0) as file:
            file.seek(0)
            file.truncate(sum(len(line) for line in file if line.endswith(b'\n')))
            for number, outcome in outcomes:
                fields = {'number': number, **outcome._asdict()}
                file.write(json.dumps(fields).encode() + b'\n')

    def __iter__(self) -> Iterator[Prediction | Unreadable]:
        """All outcomes, in the photos' order."""
        files = {path: path.open('rb') for path in {path for path, _ in self._places.values()}}
        try:
            for _, (path, position) in sorted(self._places.items()):
                files[path].seek(position)
                yield self._outcome(path, files[path].readline())[1]
        finally:
            for file in files.values():
                file.close()

    @staticmethod
    def _outcome(path: Path, line: bytes) -> tuple[int, Prediction | Unreadable]:
        """A photo's number and its outcome, as a line says."""
        try:
            fields = json.loads(line)
            number = int(fields.pop('number'))
            return number, Unreadable(**fields) if 'problem' in fields else Prediction(**fields)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise InputError(f'{path}: damaged ({said_by(error)}); delete the folder {path.parent}') from error

    def predictions(self) -> Iterator[Prediction]:
        """The outcomes that are predictions."""
        return (outcome for outcome in self if isinstance(outcome, Prediction))

    def remove(self) -> None:
        """Deletes the folder, for the output is complete."""
        shutil.rmtree(self.folder)


def predict_resumably(
    out: Path,
    predictor: Engine,
    paths: Sequence[str],
    batch_size: int = 32,
    workers: int | None = None,
    progress: Progress | None = None,
    process: Process = ALONE,
) -> Journal:
    """Classifies what the journal beside ``out`` lacks, sharing it among the processes of a distributed run.

    Args:
        out: The output that will be made of the journal.
        predictor: What classifies.
        paths: All the photos.
        batch_size: As for :meth:`Engine.predict`.
        workers: Too.
        progress: Told of the photos done.
        process: Which process of the run this is.

    Returns:
        The journal, complete in process 0; when others look, that may have removed it.

    Raises:
        InputError: The journal is of another task, or another run is at it.
    """
    folder = out.with_name(f'.{out.name}.part')
    task = hashlib.sha256(repr([predictor.digest, paths]).encode()).hexdigest()
    lock = None
    if process.rank == 0:
        lock = lock_folder(folder)
        Journal(folder, task)
    process.barrier()
    journal = Journal(folder, task)
    left = [number for number in range(len(paths)) if number not in journal]
    process.barrier()  # nobody writes before everybody knows what is left
    if process.rank == 0 and len(left) < len(paths):
        print(f'going on after {len(paths) - len(left)} of {len(paths)} photos')
    mine = left[process.rank :: process.count]
    found = predictor.predict([paths[number] for number in mine], batch_size, workers)

    def outcomes() -> Iterator[tuple[int, Prediction | Unreadable]]:
        for done, outcome in enumerate(zip(mine, found, strict=True), len(paths) - len(left)):
            if progress:
                progress('classifying', done, len(paths))
            yield outcome

    journal.write(process.rank, outcomes())
    process.barrier()
    if process.rank == 0:
        journal.refresh()
    if lock:
        lock.close()
    return journal
