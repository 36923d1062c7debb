# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, steered over a pipe by its DevTools protocol.

Messages are JSON, each ended by a zero byte: no library is needed.
"""

import base64
import collections.abc
import contextlib
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import time
import typing as ty

from devstack.lab import processes

SECONDS = 60.0


def why_not() -> str:
    """Why no browser can be started here; empty where one can."""
    return "" if _program() else "no Chromium is installed (apt-get install chromium)"


class Browser:
    """One page of a browser; ``events`` holds all that it told, in order."""

    def __init__(self, process: "subprocess.Popen[bytes]", write: int, read: int) -> None:
        self._process = process
        self._write = write
        self._read = read
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.events: list[dict[str, ty.Any]] = []

    def open(self, url: str) -> None:
        """Load a page and wait for its end; every request and complaint is in ``events``."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask("Page.navigate", url=url)
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, expression: str) -> ty.Any:
        """The value of a JavaScript expression in the page."""
        done = self.ask("Runtime.evaluate", expression=expression, returnByValue=True,
                        awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=mobile)

    def emulate(self, media: str = "", scheme: str = "light") -> None:
        """``media`` "print" or nothing; colours "light" or "dark"."""
        self.ask("Emulation.setEmulatedMedia", media=media,
                 features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self) -> bytes:
        """What is to be seen, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot")["data"])

    def press(self, key: str, code: int) -> None:
        """A key, as from the keyboard."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                     windowsVirtualKeyCode=code, **({"text": "\r"} if key == "Enter" else {}))

    def told(self, method: str) -> list[dict[str, ty.Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def ask(self, method: str, **parameters: ty.Any) -> dict[str, ty.Any]:
        number = next(self._numbers)
        message: dict[str, ty.Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda found: found.get("id") == number)
        assert "error" not in answer, answer
        return ty.cast(dict[str, ty.Any], answer["result"])

    def _until(self, wanted: ty.Callable[[dict[str, ty.Any]], bool]) -> dict[str, ty.Any]:
        until = time.monotonic() + processes.patience(SECONDS)
        while True:
            while b"\0" in self._rest:
                one, _, self._rest = self._rest.partition(b"\0")
                message = json.loads(one)
                if "id" not in message:
                    self.events.append(message)
                if wanted(message):
                    return ty.cast(dict[str, ty.Any], message)
            if not select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data


@contextlib.contextmanager
def started(profile: pathlib.Path) -> collections.abc.Iterator[Browser]:
    """A browser with a profile of its own, which can reach no network; ended afterwards."""
    program = _program()
    assert program
    to_it, write = os.pipe()
    read, from_it = os.pipe()
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
               "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
               "--remote-debugging-pipe", "about:blank"]
    # the protocol is spoken on descriptors 3 and 4, whatever they are here
    shell = f'exec 3<&{to_it} 4>&{from_it}; exec "$@"'
    process = subprocess.Popen(["bash", "-c", shell, "bash", *command],
                               pass_fds=(to_it, from_it), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    os.close(to_it)
    os.close(from_it)
    try:
        yield Browser(process, write, read)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(write)
        os.close(read)


def _program() -> str | None:
    return next(filter(None, map(shutil.which, (
        "chromium", "chromium-browser", "google-chrome"))), None)
