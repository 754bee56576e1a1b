"""Drive a headless Chromium over the pipe of its debugging protocol."""

import base64
import json
import os
import subprocess
import time

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)


class Browser:
    """A browser with one page. `problems` has what its console reported, and the requests that left the machine."""

    def __init__(self, profile):
        read_by_browser, self.write_end = os.pipe()
        self.read_end, written_by_browser = os.pipe()

        def take_pipes():  # Chromium reads commands from 3 and writes to 4
            os.dup2(read_by_browser, 203)
            os.dup2(written_by_browser, 204)
            os.dup2(203, 3)
            os.dup2(204, 4)

        self.process = subprocess.Popen(
            ["chromium", *FLAGS, f"--user-data-dir={profile}"],
            preexec_fn=take_pipes,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_by_browser)
        os.close(written_by_browser)
        self.count, self.session, self.problems, self.buffer = 0, None, [], b""
        self.loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def stop(self):
        os.close(self.write_end)
        self.process.terminate()
        self.process.wait(30)
        os.close(self.read_end)

    def call(self, method, **params):
        """Return the result of a command of the protocol."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def read(self):
        """Return the next message. Note what the page complains about."""
        while b"\0" not in self.buffer:
            part = os.read(self.read_end, 1 << 20)
            assert part, "Chromium has ended"
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(line)
        method, params = message.get("method"), message.get("params", {})
        if method in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            self.problems.append(params)
        if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
            self.problems.append(params["request"]["url"])
        self.loaded = self.loaded or method == "Page.loadEventFired"
        return message

    def open(self, page):
        """Open a file. Return the seconds until all of it but the lazy images was loaded."""
        self.loaded, start = False, time.monotonic()
        self.call("Page.navigate", url=page.as_uri())
        while not self.loaded:
            self.read()
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.monotonic() - start

    def evaluate(self, expression):
        """Return the value of an expression of JavaScript. A promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector):
        """Click with the mouse on the middle of the first element that a selector finds."""
        find = (
            f"const found = document.querySelector({json.dumps(selector)}); found.scrollIntoView({{block: 'center'}});"
        )
        middle = "const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2];"
        point = self.evaluate(f"(() => {{ {find} {middle} }})()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=point[0], y=point[1], button="left", clickCount=1)

    def press(self, key):
        codes = {"Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def type(self, text):
        self.call("Input.insertText", text=text)

    def resize(self, width, height, scale=1):
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def prefer(self, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
