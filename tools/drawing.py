"""The page of `python -m lenet_lab draw` in a headless browser, for the tests and for pictures.

`python tools/drawing.py` makes two pictures of it, in MNIST_figures: draw.png
shows a digit and the details of one map, draw.gif how digits are drawn and read.
"""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browser
from PIL import Image

from lenet_lab.paths import whole_file

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parent.parent
HANDS = json.loads((ROOT / "tests" / "golden" / "strokes.json").read_text())  # three hands, ten digits, strokes, points
Strokes = Sequence[Sequence[Sequence[int]]]
PAPER = 280  # the points' scale
PICTURES = Path("MNIST_figures")
COLOURS = 96  # in a picture
FRAME = 90  # milliseconds
REST = 8  # frames


@contextmanager
def server(*arguments: str, **options: Any) -> Iterator[tuple[str, subprocess.Popen]]:
    """Start the command in a process of its own; yields its address, once it listens, and the process."""
    command = [sys.executable, "-m", "lenet_lab", "draw", "--no-browser", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        lines = iter(process.stdout.readline, "")
        found = (re.search(r"http://\S+/", line) for line in lines)
        yield next(match[0] for match in found if match), process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def draw(page: "Page", strokes: Strokes, every: int = 1, after_point: Callable[[], object] | None = None) -> None:
    """Draw strokes with the mouse, through every n-th of their points; `after_point` is called after each."""
    box = page.locator("#canvas").bounding_box()
    for points in strokes:
        for number, (x, y) in enumerate([*points[:-1:every], points[-1]]):
            page.mouse.move(box["x"] + x * box["width"] / PAPER, box["y"] + y * box["height"] / PAPER)
            if number == 0:
                page.mouse.down()
            if after_point:
                after_point()
        page.mouse.up()


def wait_until_read(page: "Page") -> None:
    """Wait until the page shows what the server made of the last change."""
    page.evaluate(
        """async () => {
            while (!document.querySelector("#panels[aria-busy=false] .panel")) {
                await new Promise((resolve) => setTimeout(resolve, 5));
            }
        }"""
    )


def picture(page: "Page") -> Image.Image:
    """Photograph what is in the window."""
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def reduce_colours(frame: Image.Image) -> Image.Image:
    """Reduce a picture to few colours, with the rare ones among them."""
    return frame.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def film(page: "Page") -> list[Image.Image]:
    """Draw a 3, look at a map, then draw a 5; returns the frames."""
    frames = [picture(page)]

    def expose() -> None:
        nonlocal points
        points += 1
        if points % 2 == 0:
            wait_until_read(page)
            frames.append(picture(page))

    points = 0
    draw(page, HANDS["hand 1"]["3"], after_point=expose)
    frames += [picture(page)] * REST
    page.locator(".layer").nth(2).locator(".unit").nth(9).click()
    page.locator(".detail .filter canvas").first.wait_for()
    wait_until_read(page)
    page.mouse.move(1, 1)
    frames += [picture(page)] * 2 * REST
    page.locator("#clear").click()
    draw(page, HANDS["hand 1"]["5"], after_point=expose)
    frames += [picture(page)] * 2 * REST
    return frames


def save_film(frames: Sequence[Image.Image], path: Path) -> None:
    """Save frames as an animated GIF, all with the colours of the last one."""
    palette = reduce_colours(frames[-1])
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    with whole_file(path) as part:
        first.save(part, save_all=True, append_images=others, duration=FRAME, loop=0, optimize=True)


def main() -> None:
    """Make both pictures."""
    with server() as (address, _), browser.browser() as started:
        page = started.new_page(viewport={"width": 1200, "height": 860})
        page.goto(address)
        wait_until_read(page)
        frames = film(page)
    save_film(frames, PICTURES / "draw.gif")
    with whole_file(PICTURES / "draw.png") as part:
        reduce_colours(frames[-1]).save(part, optimize=True)


if __name__ == "__main__":
    main()
