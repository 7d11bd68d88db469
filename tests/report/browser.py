"""Headless Chromium over its DevTools protocol, through a pair of pipes: no further software, no open port."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_SECONDS = 120.0


def installed() -> str | None:
    """Where a Chromium lies, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A Chromium with one page open; everything that it asks the network for and complains of is kept."""

    def __init__(self, folder: Path):
        path = installed()
        assert path is not None
        theirs, self._out = os.pipe()
        self._in, back = os.pipe()
        # Chromium reads its commands from descriptor 3 and answers on 4; above 9 none of ours is in the way.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs, back)]

        def place() -> None:
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [path, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            preexec_fn=place,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (theirs, back, *high):
            os.close(end)
        self._number = 0
        self._rest = b""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._number += 1
        said: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._out, json.dumps(said).encode() + b"\0")
        while True:
            heard = self._next()
            if heard.get("id") == self._number:
                if "error" in heard:
                    raise RuntimeError(f"{method}: {heard['error']}")
                answer: dict[str, Any] = heard["result"]
                return answer

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False, touch: bool = False) -> None:
        """Open a page in a window of that size, and wait until it is loaded."""
        self.requests.clear()
        self.complaints.clear()
        self.size(width, height, touch)
        self.theme(dark)
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def size(self, width: int, height: int, touch: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def theme(self, dark: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def ask(self, script: str) -> Any:
        """What an expression gives in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script:.80}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + _SECONDS
        while not self.ask(script):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}; complaints: {self.complaints}")
            time.sleep(0.05)

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def shoot(self, path: Path, whole: bool = False) -> None:
        """A picture of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._all(whole))
        path.write_bytes(base64.b64decode(found["data"]))

    def _all(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def pdf(self) -> bytes:
        """The page as it is printed."""
        found = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(found["data"])

    def close(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], _SECONDS)[0]:
                raise TimeoutError("Chromium does not answer")
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("Chromium has ended")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        self._note(heard.get("method", ""), heard.get("params", {}))
        return heard

    def _note(self, method: str, said: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([a.get("value", a.get("description")) for a in said["args"]]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")


def texts_below(browser: Browser, limit: float) -> Sequence[str]:
    """Visible texts written smaller than so many pixels."""
    script = """(() => {
      const found = new Set();
      const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) {
        const node = walk.currentNode, element = node.parentElement;
        if (!node.textContent.trim() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName)) continue;
        if (element.closest(".hidden") || !element.getClientRects().length) continue;
        const style = getComputedStyle(element);
        if (style.visibility !== "hidden" && parseFloat(style.fontSize) < LIMIT)
          found.add(style.fontSize + " " + node.textContent.trim().slice(0, 40));
      }
      return [...found];
    })()""".replace("LIMIT", str(limit))
    answer: list[str] = browser.ask(script)
    return answer


def faint_texts(browser: Browser, least: float = 4.5) -> Sequence[str]:
    """Visible texts whose contrast with their ground (WCAG 2) is below ``least``; charts draw theirs themselves."""
    script = """(() => {
      const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
      const light = c => { const [r, g, b] = c.map(v => { v /= 255;
        return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126*r + 0.7152*g + 0.0722*b; };
      const over = (top, low) => top.slice(0, 3).map((v, i) => v * top[3] + low[i] * (1 - top[3]));
      const ground = element => {
        let layers = [];
        for (let e = element; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor));
        return layers.reduce((low, top) => over(top, low), [255, 255, 255]);
      };
      const found = [];
      const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) {
        const node = walk.currentNode, element = node.parentElement;
        if (!node.textContent.trim() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName)) continue;
        if (element.closest(".hidden") || !element.getClientRects().length) continue;
        const style = getComputedStyle(element);
        const svg = element.namespaceURI.includes("svg");
        if (element.tagName === "title") continue;
        let below = ground(svg ? element.closest(".plot") : element);
        if (svg) {
          // What is drawn below a text, such as a heat map's cell.
          const box = element.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + box.height / 2;
          const cell = [...element.ownerSVGElement.querySelectorAll("path")].find(path => {
            const b = path.getBoundingClientRect();
            return path.querySelector("title") && b.left < x && b.right > x && b.top < y && b.bottom > y; });
          if (cell) {
            const own = getComputedStyle(cell), c = parse(own.fill);
            below = over([...c.slice(0, 3), c[3] * parseFloat(own.fillOpacity)], below);
          }
        }
        const a = light(over(parse(svg ? style.fill : style.color), below)), b = light(below);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < LEAST) found.push(contrast.toFixed(2) + " " + node.textContent.trim().slice(0, 40));
      }
      return found;
    })()""".replace("LEAST", str(least))
    answer: list[str] = browser.ask(script)
    return answer
