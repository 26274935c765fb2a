"""Make the pictures of the live page in docs/images: ``python tools/screenshots.py [FOLDER]``.

This serves the shop of tests/flask/live_page in its own process, sends it some requests, and opens the page in
Chromium: first without a relay, and then with one.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
REQUESTS: Final = (
    ("GET", "/"),
    ("GET", "/lamps/aldis"),
    ("GET", "/lamps/lava"),
    ("GET", "/sweep"),
    ("POST", "/register?id=7"),
    ("GET", "/offers"),
    ("GET", "/"),
    ("GET", "/lamps/morse"),
    ("POST", "/orders?id=41"),
    ("GET", "/export"),
    ("GET", "/lamps/signal"),
)
BEFORE_WORK: Final = (*[("POST", f"/register?id={number}") for number in (8, 7, 10)], ("POST", "/orders"))
AFTER_WORK: Final = (*[("POST", f"/orders?id={number}") for number in range(31, 45)], ("POST", "/register?id=12"))


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """Serve the shop, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    command = [sys.executable, "-c", "import shop; shop.serve()", str(port), *arguments]

    with subprocess.Popen(
        command, cwd=ROOT / "tests" / "flask" / "live_page", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()

        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def ask(address: str, requests: Iterable[tuple[str, str]], pause_s: float = 0.0) -> None:
    """Make some requests."""
    for method, path in requests:
        try:
            urllib.request.urlopen(urllib.request.Request(address + path, method=method)).read()
        except urllib.error.HTTPError:
            continue
        finally:
            time.sleep(pause_s)


class Camera:
    """Takes pictures of the page, in one size, and in light or dark colours."""

    def __init__(
        self, browser: Any, address: str, folder: Path, dark: bool = False, width: int = 1240, height: int = 800
    ) -> None:
        self.folder = folder
        self.page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        self.page.goto(f"{address}/_aldis/")
        self.page.locator("#state[data-state=live]").wait_for()

    def open(self, path: str) -> None:
        self.page.locator(".entry", has_text=path).first.locator("summary").click()

    def shoot(self, name: str) -> None:
        self.page.screenshot(path=self.folder / f"{name}.png")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    with serving("werkzeug") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        ask(address, REQUESTS, pause_s=0.1)

        for dark in (False, True):
            camera = Camera(browser, address, folder, dark=dark, height=820)
            camera.page.locator(".entry").nth(10).wait_for()
            camera.open("/orders")
            camera.shoot("live-page-dark" if dark else "live-page")

        camera = Camera(browser, address, folder, height=480)
        camera.page.locator(".entry").nth(10).wait_for()
        camera.page.locator("#filter-signal").fill("register")
        camera.open("/register")
        camera.shoot("live-page-failure")

        camera = Camera(browser, address, folder, height=760)
        camera.page.locator("#tab-connections").click()
        camera.shoot("live-page-connections")

        camera = Camera(browser, address, folder, width=390, height=844)
        camera.page.locator(".entry").nth(10).wait_for()
        camera.open("/register")
        camera.shoot("live-page-phone")
        browser.close()

    with (
        TemporaryDirectory() as place,
        serving("werkzeug", f"relay={place}/relay.sqlite") as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        ask(address, (*BEFORE_WORK, ("POST", "/drain"), *AFTER_WORK, ("POST", "/claim")))
        camera = Camera(browser, address, folder, height=680)
        camera.page.locator("#tab-relay").click()
        camera.page.locator("#relay tbody tr").nth(7).wait_for()
        camera.shoot("live-page-relay")
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    main(parser.parse_args().folder)
