"""The report in a real browser: everything shows, nothing is fetched, nothing complains."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.books import whole

from search.answer.report import write_report
from search.history.folder import Folder

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# appended to a copy of the page: writes what the browser made of it where the test can read it
PROBE = """
<script>
const faults = [];
window.addEventListener("error", e => faults.push("error: " + (e.message || e.target.src)), true);
window.addEventListener("load", () => {
  const pictures = [...document.images];
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.body.innerHTML = "PROBE " + JSON.stringify({
    sections: [...document.querySelectorAll("section")].filter(s => s.offsetHeight > 40).length,
    pictures: pictures.length,
    drawn: pictures.filter(p => p.naturalWidth > 100).length,
    fetched: performance.getEntriesByType("resource").filter(
      r => !r.name.startsWith("data:")).length,
    answer: document.getElementById("answer").textContent.length > 60,
    overflow: wide, faults}) + " END";
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 800])
def test_the_page_opens_from_disk_without_network_and_without_complaints(
    width: int, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "tiny-000000")
    folder.path.mkdir()
    write_report(folder, whole())
    page = (folder.report / "report.html").read_text()
    probed = tmp_path / "probed.html"
    probed.write_text(page.replace("<head>", "<head>" + PROBE))
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--proxy-server=127.0.0.1:9",  # whoever tries the network fails
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},2000",
        "--enable-logging=stderr",
        "--dump-dom",
        probed.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    text = done.stdout.split("PROBE ", 2)[-1].split(" END")[0]
    found = json.loads(text)
    assert found["sections"] == page.count("<section ") >= 10
    assert found["pictures"] == found["drawn"] == page.count("<img ") >= 6
    assert (found["fetched"], found["faults"], found["answer"]) == (0, [], True)
    assert found["overflow"] <= 0  # nothing sticks out at the side
    assert ":CONSOLE" not in done.stderr
