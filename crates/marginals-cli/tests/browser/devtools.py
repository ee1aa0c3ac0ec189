"""Chromium without a window, driven over its DevTools protocol. Needs nothing but Python and Chromium."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable():
    """The path of a Chromium, or None."""
    given = os.environ.get("CHROMIUM")
    return given or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a Chromium of its own; a context manager."""

    PATIENCE = 30.0

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        # The protocol is spoken over two pipes, which the browser finds as descriptors 3 and 4.
        to_browser, self.writing = os.pipe()
        self.reading, from_browser = os.pipe()
        command = [
            executable(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe",
            f"--user-data-dir={self.profile}", "about:blank",
        ]
        places = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(
            ["sh", "-c", places, "sh", *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.rest = b""
        self.count = 0
        self.session = None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        try:
            os.write(self.writing, b'{"id":0,"method":"Browser.close"}\0')
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.writing)
        os.close(self.reading)
        shutil.rmtree(self.profile, ignore_errors=True)

    def message(self):
        """The next message of the browser."""
        end = time.monotonic() + self.PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.reading], [], [], max(0.0, end - time.monotonic()))
            received = os.read(self.reading, 1 << 20) if ready else b""
            if not received:
                raise TimeoutError("Chromium does not answer")
            self.rest += received
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        """Calls a method of the protocol; returns its result."""
        self.count += 1
        request = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.writing, json.dumps(request).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            if "method" in message:
                self.events.append(message)

    def run(self, expression, gesture=False):
        """The value of an expression of JavaScript in the page, as if a user made it where it is a
        gesture; promises are waited for."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression, returnByValue=True, awaitPromise=True, userGesture=gesture,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression):
        """Waits until an expression holds."""
        end = time.monotonic() + self.PATIENCE
        while not self.run(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"it never came to hold: {expression}")
            time.sleep(0.02)

    def open(self, path, fragment=""):
        """Opens a file; returns the seconds until its posteriors are there."""
        start = time.monotonic()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=f"file://{os.path.abspath(path)}{fragment}")
        self.wait("document.getElementById('read')?.matches(':not([aria-busy])')")
        return time.monotonic() - start

    def look(self, width, height, theme):
        """Sets the size of the page and its theme, light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def middle(self, selector):
        """The middle of an element, which is scrolled to."""
        return self.run(
            f"""(() => {{
                const element = document.querySelector({json.dumps(selector)});
                element.scrollIntoView({{ block: "center", behavior: "instant" }});
                const box = element.getClientRects()[0];
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )

    def click(self, selector):
        """Clicks the middle of an element with the mouse."""
        self.click_at(*self.middle(selector))

    def click_at(self, x, y, shift=False):
        """Clicks a place of the window."""
        at = {"x": x, "y": y, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def hover(self, selector):
        """Moves the mouse over an element."""
        x, y = self.middle(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key):
        """Presses a key where the focus is."""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "Enter": 13, "Tab": 9}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=codes[key],
            )

    def picture(self, path, selector=None):
        """Saves a picture of the whole page, or of one element."""
        clip = self.run(
            f"""(() => {{
                const box = document.querySelector({json.dumps(selector or 'html')}).getBoundingClientRect();
                return {{ x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height, scale: 1 }};
            }})()"""
        )
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))
