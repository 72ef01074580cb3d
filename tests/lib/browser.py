"""A real Chromium, steered over the WebDriver protocol (W3C) with nothing but
the standard library."""

import json
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request

START_LIMIT = 60


def missing():
    """Why there can be no browser here, or None."""
    for program in ("chromedriver", "chromium"):
        if not shutil.which(program):
            return f"{program} is not installed (scripts/setup.sh test)"
    return None


class Browser:
    """One window without a screen. Ends with close()."""

    def __init__(self, javascript=True):
        self.profile = tempfile.mkdtemp(prefix="cardea-browser-")
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.session = None
        timer = threading.Timer(START_LIMIT, self.driver.kill)
        timer.start()
        try:
            self.base = f"http://127.0.0.1:{self._port()}"
            options = {"binary": shutil.which("chromium"), "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu",
                "--disable-dev-shm-usage", "--no-first-run",
                "--disable-extensions", "--disable-background-networking",
                f"--user-data-dir={self.profile}"]}
            if not javascript:
                options["prefs"] = {
                    "profile.managed_default_content_settings.javascript": 2}
            self.session = self._ask("POST", "/session", {"capabilities": {
                "alwaysMatch": {"goog:chromeOptions": options}}})["sessionId"]
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()

    def _port(self):
        for line in self.driver.stdout:
            match = re.search(rb"started successfully on port (\d+)", line)
            if match:
                # The rest is not read: it says nothing more on it.
                return int(match.group(1))
        raise AssertionError("chromedriver ended before it was ready")

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.base + path, data, {"Content-Type": "application/json"},
            method=method)
        try:
            with urllib.request.urlopen(request, timeout=START_LIMIT) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as e:
            raise AssertionError(f"browser: {e.read().decode()[:500]}") from e

    def _in(self, method, what, body=None):
        return self._ask(method, f"/session/{self.session}{what}", body)

    def open(self, url):
        """Returns when the page is loaded."""
        self._in("POST", "/url", {"url": url})

    def script(self, text):
        """What the JavaScript function body TEXT returns."""
        return self._in("POST", "/execute/sync", {"script": text, "args": []})

    def html(self):
        return self._in("GET", "/source")

    def width(self, pixels, dark=False):
        """As on a screen that wide."""
        for command, params in (
                ("Emulation.setDeviceMetricsOverride",
                 {"width": pixels, "height": 900, "deviceScaleFactor": 1,
                  "mobile": pixels < 600}),
                ("Emulation.setEmulatedMedia", {"features": [
                    {"name": "prefers-color-scheme",
                     "value": "dark" if dark else "light"}]})):
            self._in("POST", "/goog/cdp/execute",
                     {"cmd": command, "params": params})

    def errors(self):
        """What the console complained of."""
        return [e["message"] for e in self._in("POST", "/se/log",
                                               {"type": "browser"})
                if e["level"] == "SEVERE"]

    def picture(self):
        """The whole page, as base64 of a PNG."""
        return self._in("POST", "/goog/cdp/execute", {
            "cmd": "Page.captureScreenshot",
            "params": {"captureBeyondViewport": True}})["data"]

    def close(self):
        if self.session:
            try:
                self._in("DELETE", "")
            except (AssertionError, OSError):
                pass
        self.driver.terminate()
        try:
            self.driver.wait(10)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait()
        self.driver.stdout.close()
        shutil.rmtree(self.profile, ignore_errors=True)
