"""The pictures of the README: the report and the MLflow page of the newest search.

    python tests/pictures/take.py [HOME]     # HOME is ./runs unless given

Needs Chromium; pictures are made small, and replace those beside this file.
"""

from __future__ import annotations

import asyncio
import base64
import io
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import aiohttp
from PIL import Image

from search.history.home import Home

HERE = Path(__file__).parent
WIDTH, SCALE = 1280, 0.75  # of what is shown, in pixels; of the picture to it
REPORT_HEIGHT, MLFLOW_HEIGHT = 1330, 830
PANEL = 410  # pixels of a panel at the right of MLflow's page, which is cut off
PATIENCE = 60.0  # seconds for MLflow, or the browser, to come up
DRAWING = 12.0  # seconds that a page has to draw its charts
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-sync", "--disable-quic")


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium on this machine: install Debian's package chromium, or Chrome")
    home = Home(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    folders = [folder for folder in home.searches() if (folder.report / "report.html").exists()]
    if not folders:
        sys.exit(f"{home.path}: no search with a report; make one with: make run")
    page = (folders[-1].report / "report.html").as_uri()
    take(browser, page, HERE / "report.png", REPORT_HEIGHT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "cluster.cli", "ui", "--port", str(port)]
    env = {"DIFFSWEEP_HOME": str(home.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            assert server.stdout is not None
            links = [server.stdout.readline() for _ in range(2)]
            wait_for(f"http://127.0.0.1:{port}/health")
            link = re.search(r"http://\S+$", links[-1].strip())
            assert link is not None, links
            take(browser, charts(link[0]), HERE / "mlflow.png", MLFLOW_HEIGHT, PANEL)
        finally:
            server.terminate()


def wait_for(address: str) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def charts(link: str) -> str:
    """The link to a view of runs, opened on its charts."""
    return f"{link}&compareRunsMode=CHART"


def take(browser: str, address: str, target: Path, height: int, cut: int = 0) -> None:
    """A picture of the upper part of a page, without `cut` pixels at its right."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [*QUIET, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        command += [f"--window-size={WIDTH + cut},{height}", address]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                port = int(wait_for_file(Path(profile) / "DevToolsActivePort").split()[0])
                time.sleep(DRAWING)
                whole = asyncio.run(seen(port, (WIDTH + cut, height)))
            finally:
                process.terminate()
    with Image.open(io.BytesIO(whole)) as image:
        size = round(WIDTH * SCALE), round(height * SCALE)
        shown = image.convert("RGB").crop((0, 0, WIDTH, height))
        small = shown.resize(size, Image.Resampling.LANCZOS)
        small.save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


def wait_for_file(path: Path) -> str:
    """The content of a file, once it is there."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists() or not path.read_text():
        if time.monotonic() > deadline:
            sys.exit("the browser does not come up")
        time.sleep(0.1)
    return path.read_text()


async def seen(port: int, size: tuple[int, int]) -> bytes:
    """What the browser's page shows, as PNG, by the Chrome DevTools protocol."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{port}/json") as answer:
            pages = await answer.json()
        target = next(page for page in pages if page["type"] == "page")["webSocketDebuggerUrl"]
        async with http.ws_connect(target, max_msg_size=0) as page:
            await page.send_json(
                {"id": 1, "method": "Emulation.setDeviceMetricsOverride", "params": metrics}
            )
            await asyncio.sleep(2)
            await page.send_json({"id": 2, "method": "Page.captureScreenshot"})
            async for message in page:
                found = message.json()
                if found.get("id") == 2:
                    return base64.b64decode(found["result"]["data"])
    raise RuntimeError("the browser gave no picture")


if __name__ == "__main__":
    main()
