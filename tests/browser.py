"""Look at pages in Debian's chromium, headless."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER_ONLY = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed: apt-get install chromium")
WIDTHS = (1280, 400)  # pixels

# Put in a copy of the page: what is as it must not be, as JSON in an attribute of <html>.
_LOOK = """<script>addEventListener("load", () => {
  const all = [...document.body.querySelectorAll("*")].filter(e => e.getClientRects().length);
  const box = e => e.getBoundingClientRect(), name = e => e.tagName + ":" + e.textContent.trim().slice(0, 40);
  const texts = all.filter(e => ["TH", "TD", "P", "H1", "H2", "H3", "H4", "CAPTION", "FIGCAPTION", "IMG", "LI", "text"]
    .includes(e.tagName));
  const over = [];
  for (const [i, a] of texts.entries()) for (const b of texts.slice(i + 1)) {
    const p = box(a), q = box(b), gap = 2;
    if (!a.contains(b) && !b.contains(a) && p.left < q.right - gap && q.left < p.right - gap && p.top < q.bottom - gap
        && q.top < p.bottom - gap) over.push(name(a) + " over " + name(b));
  }
  const rgb = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
  const light = c => {
    const [r, g, b] = rgb(c).map(v => v / 255).map(v => v <= .04 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b };
  const back = light(getComputedStyle(document.body).backgroundColor);
  const contrast = c => (Math.max(light(c), back) + .05) / (Math.min(light(c), back) + .05);
  document.documentElement.setAttribute("data-looked", JSON.stringify({
    width: innerWidth, scroll: document.documentElement.scrollWidth, over: over.slice(0, 9),
    wide: all.filter(e => box(e).right > innerWidth + 1 || box(e).left < -1).map(name).slice(0, 9),
    nameless: [...document.querySelectorAll("img, svg")].filter(e => !(e.alt || e.getAttribute("aria-label"))).length,
    broken: [...document.images].filter(e => !e.naturalWidth).length,
    back: back, contrast: Math.min(...texts.filter(e => e.tagName != "IMG").map(e => contrast(
      getComputedStyle(e)[e.tagName == "text" ? "fill" : "color"]))),
    outside: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")),
  }));
})</script></body>"""


def look(page: Path, width: int, dark: bool = False) -> dict:
    """Return what a browser with a window of this width finds on a page: see _LOOK."""
    content = page.read_text(encoding="utf-8")
    copy = page.with_name(f"look-{width}.html")
    copy.write_text(content.replace("</body>", _LOOK), encoding="utf-8")
    frame = page.with_name(f"frame-{width}.html")  # a window is at least 500 pixels wide
    frame.write_text(
        f'<!DOCTYPE html><body style="margin:0"><iframe id="f" src="{copy.name}" style="border:0;width:{width}px;'
        'height:900px"></iframe><script>addEventListener("load", () => setTimeout(() => document.body.setAttribute('
        '"data-looked", f.contentDocument.documentElement.getAttribute("data-looked")), 50))</script>'
    )
    dom = _chromium(frame, "--dump-dom", dark=dark)
    return json.loads(html.unescape(re.search(r'<body[^>]* data-looked="([^"]*)"', dom).group(1)))


def refuse_faults(page: Path, width: int, dark: bool) -> None:
    """Assert that a page can be read in a window of this width: see _LOOK."""
    seen = look(page, width, dark)
    assert seen["width"] == width
    assert seen["scroll"] <= width
    assert (seen["over"], seen["wide"], seen["outside"], seen["nameless"], seen["broken"]) == ([], [], [], 0, 0)
    assert (seen["back"] < 0.05) == dark
    assert seen["contrast"] > 4.5  # WCAG 2.1, 1.4.3


def cells(page: str, label: str) -> list[str]:
    """Return the texts of a page's cells below a heading."""
    return [html.unescape(text) for text in re.findall(rf'<td data-label="{re.escape(label)}">(.*?)</td>', page)]


def needs_nothing_else(page: str) -> bool:
    """Return whether a page is complete in one file and without a script."""
    return "<script" not in page and not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)


def dom_of(page: Path) -> str:
    """Return a page as a browser has read it."""
    return _chromium(page, "--dump-dom")


def screenshot(page: Path, path: Path, width: int, height: int, dark: bool = False) -> None:
    """Save what a window of this size shows; width: at least 500."""
    _chromium(page, f"--screenshot={path}", f"--window-size={width},{height}", "--hide-scrollbars", dark=dark)


def _chromium(page: Path, *options: str, dark: bool = False) -> str:
    if dark:
        options = (*options, "--blink-settings=preferredColorScheme=0")
    folder = page.with_name("profile")
    common = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        f"--user-data-dir={folder}",
    ]
    return subprocess.run(
        [CHROMIUM, *common, "--window-size=1300,1000", "--virtual-time-budget=5000", *options, page.as_uri()],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=120,
        env={**os.environ, "HOME": str(page.parent)},
        encoding="utf-8",
    ).stdout
