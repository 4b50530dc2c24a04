"""A browser to look at pages with: headless Chromium, spoken to over two pipes (its DevTools protocol)."""

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_SECONDS = 60


class Browser:
    """One page of a headless Chromium, closed with the `with` block; `heard` is what it complained of or asked for."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        # Chromium reads commands from descriptor 3 and answers on 4; both are above what subprocess uses.
        (read_theirs, self._write), (self._read, write_theirs) = os.pipe(), os.pipe()
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        moved = f"exec {CHROMIUM} {' '.join(flags)} about:blank 3<&{read_theirs} 4>&{write_theirs}"
        self._process = subprocess.Popen(
            ["bash", "-c", moved],
            pass_fds=(read_theirs, write_theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_theirs)
        os.close(write_theirs)
        self._number, self._rest, self._session = 0, b"", None
        self.heard: list[tuple[str, str]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def ask(self, method: str, **parameters: Any) -> Any:
        """One command and its answer; what is told meanwhile is heard."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._until(lambda answer: answer.get("id") == self._number)["result"]

    def open(self, page: Path, width: int, scheme: str = "light") -> None:
        """Show a file in a window of that width and wait until it is loaded."""
        self.heard = []
        phone = width < 500
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=phone)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Page.navigate", url=page.as_uri())
        self.wait(f"document.readyState === 'complete' && location.href === '{page.as_uri()}'")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while self.run(condition) is not True:
            assert time.monotonic() < ends, f"not so in {PATIENCE_SECONDS} s: {condition}"
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """Value of an expression in the page, after two frames, so that what follows from a change has followed."""
        settled = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        expression = f"(async () => {{ const value = ({script}); await {settled}; return value; }})()"
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def _until(self, wanted: Any) -> Any:
        ends = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < ends:
            if select.select([self._read], [], [], 0.5)[0]:
                self._rest += os.read(self._read, 1 << 20)
            *messages, self._rest = self._rest.split(b"\0")
            found = None
            for message in map(json.loads, messages):
                self._hear(message)
                found = message if wanted(message) else found
            if found is not None:
                assert "error" not in found, found["error"]
                return found
        raise TimeoutError(f"the browser did not answer in {PATIENCE_SECONDS} s")

    def _hear(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.heard.append(("error", str(told["exceptionDetails"])))
            case "Runtime.consoleAPICalled":
                self.heard.append(("console", str(told["args"])))
            case "Log.entryAdded":
                self.heard.append(("log", told["entry"]["text"]))
            case "Network.requestWillBeSent":
                self.heard.append(("request", told["request"]["url"]))
