"""A headless Chromium for tests of pages, driven over pipes (DevTools protocol): nothing but a browser is needed."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')


class Chromium:
    """One page of a running browser.

    Attributes:
        problems: What the page has written to the console as a warning or an error, and exceptions it did not catch.
        requests: Addresses that it has asked for, ``data:`` ones apart.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._commands, self._answers = os.fdopen(commands, 'wb'), os.fdopen(answers, 'rb')
        self._number, self._session, self._loaded, self._rest = 0, '', False, b''
        target = self.send('Target.createTarget', url='about:blank')['targetId']
        self._session = self.send('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.send(f'{domain}.enable')

    def send(self, method: str, **parameters: Any) -> dict:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        call = {'id': self._number, 'method': method, 'params': parameters}
        if self._session:
            call['sessionId'] = self._session
        self._commands.write(json.dumps(call).encode() + b'\0')
        self._commands.flush()
        while (message := self._receive()).get('id') != self._number:
            pass
        assert 'error' not in message, message
        return message['result']

    def _receive(self) -> dict:
        while b'\0' not in self._rest:
            part = self._answers.read1(1 << 16)
            assert part, 'the browser has ended'
            self._rest += part
        text, _, self._rest = self._rest.partition(b'\0')
        message = json.loads(text)
        self._note(message.get('method'), message.get('params', {}))
        return message

    def _note(self, method: str | None, said: dict) -> None:
        if method == 'Page.loadEventFired':
            self._loaded = True
        elif method == 'Runtime.consoleAPICalled' and said['type'] in ('error', 'warning', 'assert'):
            self.problems.append(f'console: {[part.get("value") for part in said["args"]]}')
        elif method == 'Runtime.exceptionThrown':
            self.problems.append(f'exception: {said["exceptionDetails"]}')
        elif method == 'Log.entryAdded' and said['entry']['level'] in ('error', 'warning'):
            self.problems.append(f'log: {said["entry"]["text"]}')
        elif method == 'Network.requestWillBeSent' and not said['request']['url'].startswith('data:'):
            self.requests.append(said['request']['url'])

    def open(self, page: Path | str, width: int = 1280) -> None:
        """Opens a file or an address at a width in CSS pixels (under 600 as a phone), and waits until it is loaded."""
        phone = width < 600
        screen = {'width': width, 'height': 900, 'deviceScaleFactor': 2 if phone else 1, 'mobile': phone}
        self.send('Emulation.setDeviceMetricsOverride', **screen)
        self._loaded = False
        self.send('Page.navigate', url=page if isinstance(page, str) else page.resolve().as_uri())
        while not self._loaded:
            self._receive()

    def run(self, script: str) -> Any:
        """What a JavaScript expression gives, as JSON has it; promises are waited for."""
        answer = self.send('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def press(self, key: str) -> None:
        """Presses a key, such as ``'ArrowRight'`` or ``'Tab'``."""
        for kind in ('rawKeyDown', 'keyUp'):
            code = {'Tab': 9, 'Enter': 13, 'End': 35, 'Home': 36, 'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39}
            self.send('Input.dispatchKeyEvent', type=kind, key=key, code=key, windowsVirtualKeyCode=code.get(key, 40))


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Starts the browser, without a network; skips the test, with the reason, where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip('no chromium installed: apt-get install chromium')
    to_browser, from_here = os.pipe()
    to_here, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--remote-debugging-pipe']
        flags += ['--no-first-run', '--disable-background-networking', '--disable-component-update']
        flags += ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', f'--user-data-dir={profile}']
        # The protocol's pipes have to be the descriptors 3 and 4.
        wire = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        process = subprocess.Popen(
            ['bash', '-c', wire, program, *flags],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Chromium(from_here, to_here)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
