"""The training report in a real browser: nothing is cut off, in light and in dark, on a wide and on a narrow screen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from tests.kafka_broker import missing_tool
from tests.reports import full_page, image_page

pytestmark = pytest.mark.deploy

# Tells what sticks out of the window, of its table cell or of its plot's half of the page.
MEASURE = """<pre id="found"></pre><script>
const width = document.documentElement.clientWidth, out = [];
for (const box of document.querySelectorAll('h1, h2, h3, p, dl, dd, ul, figure, svg')) {
  const place = box.getBoundingClientRect();
  if (place.left < -1 || place.right > width + 1 || box.scrollWidth > box.clientWidth + 1 && box.clientWidth > 0)
    out.push(box.tagName + ': ' + box.textContent.slice(0, 40));
}
for (const text of document.querySelectorAll('svg text')) {
  const place = text.getBoundingClientRect(), plot = text.closest('svg').getBoundingClientRect();
  if (place.left < plot.left - 2 || place.right > plot.right + 2 || place.top < plot.top - 2 || place.bottom > plot.bottom + 2)
    out.push('text: ' + text.textContent);
}
const pictures = [...document.querySelectorAll('svg image')].map(picture => {
  const place = picture.getBoundingClientRect();
  return [picture.closest('figure').querySelector('h3').textContent, place.left, place.top, place.right, place.bottom];
});
const texts = document.querySelectorAll('svg text').length;
const found = {width: width, page: document.documentElement.scrollWidth, texts: texts, pictures: pictures, out: out};
document.getElementById('found').textContent = JSON.stringify(found);
</script></body>"""


def browse(folder: Path, *arguments: str) -> str:
    """Runs Chromium without a window; returns what it prints."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        missing_tool("chromium is not installed; Debian's package chromium")
    # As root Chromium refuses its sandbox; the page is our own.
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder}/profile",
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def measure(page: str, folder: Path, width: int) -> dict[str, Any]:
    file = folder / "measured.html"
    file.write_text(page.replace("</body>", MEASURE), encoding="utf-8")
    dom = browse(folder, f"--window-size={width},900", "--dump-dom", file.as_uri())
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', dom)
    measured: dict[str, Any] = json.loads(html.unescape(found))
    return measured


def screenshot(page: str, folder: Path, *arguments: str) -> NDArray[np.float32]:
    """Pixels, float32 (height, width, 3), 0 to 1."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    target = folder / "page.png"
    browse(folder, "--window-size=1280,3600", f"--screenshot={target}", *arguments, (folder / "page.html").as_uri())
    return imread(target)[..., :3]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return full_page(tmp_path_factory.mktemp("report") / "bundle")


@pytest.mark.parametrize("width", [1280, 600])
def test_nothing_sticks_out_of_the_page_or_of_its_plot(page: str, tmp_path: Path, width: int) -> None:
    found = measure(page, tmp_path, width)
    assert found["out"] == []
    assert found["page"] <= found["width"] == width
    assert found["texts"] > 100


def test_what_does_stick_out_is_noticed(page: str, tmp_path: Path) -> None:
    found = measure(page.replace("width: 100%; height: auto; overflow: visible", "width: 1400px"), tmp_path, 1280)
    assert any(part.startswith("svg") for part in found["out"])


def test_the_page_follows_the_reader_s_choice_of_light_or_dark(page: str, tmp_path: Path) -> None:
    light = screenshot(page, tmp_path, "--blink-settings=preferredColorScheme=1")
    dark = screenshot(page, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert np.median(light) > 0.95
    assert np.median(dark) < 0.15
    for shot in (light, dark):
        blue, orange = (np.abs(shot - colour).max(axis=2) < 0.02 for colour in _colours(shot))
        assert blue.sum() > 2_000
        assert orange.sum() > 2_000
        # Plots stand side by side, down to below the middle of what is shown.
        assert blue[:, :640].any()
        assert blue[:, 640:].any()
        assert np.flatnonzero(blue.any(axis=1))[-1] > 1_000


@pytest.mark.training
def test_images_are_shown_as_they_came_as_expected_and_as_they_were_generated(tmp_path: Path) -> None:
    page = image_page(tmp_path)
    found = measure(page, tmp_path, 1280)
    assert found["out"] == []
    titles, *edges = zip(*found["pictures"], strict=True)
    assert titles == ("Images on the way", "Images: held-out rows", "Images: labelled anomalies")
    shot = screenshot(page, tmp_path)
    for left, top, right, bottom in np.array(edges).T.astype(int):
        assert right - left > 400
        assert bottom - top > 50
        picture = shot[top:bottom, left:right]
        assert np.ptp(picture, axis=2).max() < 0.05, "grey"
        assert picture.min() < 0.1
        assert len(np.unique(picture)) > 50


def _colours(shot: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """Blue and orange of the style sheet."""
    names = ("7aa9f7", "f0935f") if np.median(shot) < 0.5 else ("2563c9", "d9622b")
    return [np.array(list(bytes.fromhex(name))) / 255 for name in names]
