"""A measuring process: ``python -m custom_modules.benchmarks.side_process``, the other end of ``sides.Side``."""

import importlib
import json
import os
import sys
import traceback
from typing import Any

from custom_modules.errors import InputError, said_by

# Each takes a channel and a task, and is in the same room as what drives it.
JOBS = {
    'training': 'training.train_in_turns',
    'inference': 'inference.infer_in_turns',
    'loader': 'loader.load_in_turns',
    'limits': 'limits.compute_in_turns',
}


class Channel:
    """Requests in, replies out; both are lines of JSON, so everything else that is printed goes to stderr."""

    def __init__(self) -> None:
        self._replies = os.fdopen(os.dup(1), 'w', encoding='utf-8')
        os.dup2(2, 1)

    def receive(self) -> dict[str, Any]:
        """The next request; ends the process where there will be none."""
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # at once: a DataLoader's workers and a Runner's threads may be waiting
        return json.loads(line)

    def send(self, **reply: Any) -> None:
        """Hands over the reply."""
        self._replies.write(json.dumps(reply) + '\n')
        self._replies.flush()


def main() -> None:
    """Does the job that the first request names."""
    channel = Channel()
    first = channel.receive()
    room, _, function = JOBS[first['job']].partition('.')
    try:
        job = getattr(importlib.import_module(f'custom_modules.benchmarks.{room}'), function)
        job(channel, first['task'])
    except InputError as error:
        channel.send(problems=error.problems)
    except Exception as error:
        traceback.print_exc()
        log = os.path.join(first['task']['folder'], 'log.txt')
        channel.send(problems=[f'{first["job"]}: {said_by(error)}; the rest: {log}'])


if __name__ == '__main__':
    main()
