"""What the server answers: the page, its networks, test digits, and what a network makes of a picture."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy import ndimage
from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from lenet_lab.analysis.pictures import read_digit
from lenet_lab.draw.networks import Network
from lenet_lab.input_data import IMAGE_SIDE
from lenet_lab.paths import LabError

ADDRESS = "127.0.0.1"  # only this machine can connect
HOSTS = (ADDRESS, "localhost")  # the names by which its own browser knows it
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Value = TypeVar("Value")


class Handler(RequestHandler):
    """What all answers have in common: who may ask, the headers, errors as one sentence of text."""

    may_be_linked = False  # from a page elsewhere

    def prepare(self) -> None:
        """Refuse what a page of another origin sends, or a name of another host that leads to this machine."""
        host = self.request.host
        if host.rpartition(":")[0] not in HOSTS and host not in HOSTS:
            raise HTTPError(403, f"this server answers to {' and '.join(HOSTS)} only, not to {host!r}")
        headers = self.request.headers
        origin = headers.get("Origin", f"http://{host}")
        if origin != f"http://{host}":
            raise HTTPError(403, f"this server answers its own page only, not {origin!r}")
        # A picture, a script or a frame of another page comes without an origin.
        linked = self.may_be_linked and headers.get("Sec-Fetch-Dest") == "document"
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not linked:
            raise HTTPError(403, "this server answers its own page only, not another website")

    def set_default_headers(self) -> None:
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        sentence = error.get_message() if isinstance(error, HTTPError) else None
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        where = "; its terminal says why" if status_code >= 500 else ""
        self.finish(sentence or f"the server can't do this ({status_code} {self._reason}){where}")

    def log_exception(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if not isinstance(error, HTTPError):  # a refusal is for the page, a bug for the terminal
            super().log_exception(kind, error, traceback)

    async def compute(self, executor: str, function: Callable[[], Value]) -> Value:
        """Call a function in a thread of its own, so that the server goes on meanwhile; refuse what it refuses."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self.settings[executor], function)
        except LabError as error:
            raise HTTPError(400, str(error)) from error

    def number(self, name: str, lowest: float, highest: float) -> float:
        """A number of the query; 0 where it is left out."""
        text = self.get_query_argument(name, "0")
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not lowest <= value <= highest:
            raise LabError(f"{name} is {text!r}, expected a number from {lowest:g} to {highest:g}")
        return value

    def unit(self) -> tuple[str, int]:
        """The title of a layer and the number of one of its units, as the query names them."""
        return self.get_query_argument("layer"), int(self.number("unit", 0, 1000))

    def networks(self) -> list[Network]:
        """The one or two networks that the query names."""
        paths = self.get_query_arguments("network")
        if not 1 <= len(paths) <= 2:
            raise LabError(f"the number of networks is {len(paths)}, expected one or two")
        return [self.settings["networks"].open(path) for path in paths]


class Page(Handler, StaticFileHandler):
    """The page itself, its style and its scripts."""

    may_be_linked = True


class Nothing(Handler):
    """Any other address."""

    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(404, f"there is nothing at {self.request.path}")


class Menu(Handler):
    """The networks to choose from."""

    async def get(self) -> None:
        self.finish({"networks": await self.compute("reading", self.settings["networks"].find)})


class Layers(Handler):
    """The layers of a network: their titles and shapes, in the order in which `Read` answers."""

    async def get(self) -> None:
        (network, *_) = await self.compute("reading", self.networks)
        self.finish({"layers": network.describe()})


class Filter(Handler):
    """The weights of a unit."""

    async def get(self) -> None:
        weights = await self.compute("reading", lambda: self.networks()[0].filter(*self.unit()))
        self.finish({"filter": weights.tolist()})


class Digit(Handler):
    """A test digit at random; one that a network misreads if the query names one."""

    async def get(self) -> None:
        self.finish(await self.compute("choosing", self.choose))

    def choose(self) -> dict[str, Any]:
        misread_by = self.networks()[0] if self.get_query_arguments("network") else None
        return self.settings["digits"].choose(misread_by)


class Read(Handler):
    """What networks make of a picture.

    The body is a picture in any format that `predict` reads; in its place,
    `digit` in the query is the number of a test digit. `noise`, `right` and
    `down` disturb the image. `layer` and `unit` choose a unit, of the network
    whose number is `of`.

    The answer is float32, little-endian: the image, then for each network the
    outputs of its layers and the probabilities, then, if a unit is chosen,
    how each pixel acts on it.
    """

    async def post(self) -> None:
        arrays = await self.compute("reading", self.read)
        self.set_header("Content-Type", "application/octet-stream")
        self.finish(b"".join(np.asarray(array, "<f4").tobytes() for array in arrays))

    def read(self) -> list[np.ndarray]:
        networks = self.networks()
        right, down = (self.number(name, -IMAGE_SIDE, IMAGE_SIDE) for name in ("right", "down"))
        image = disturb(self.picture(), self.number("noise", 0, 1), right, down)
        arrays = [image, *(output for network in networks for output in network.read(image))]
        if self.get_query_arguments("layer"):
            chosen = networks[int(self.number("of", 0, len(networks) - 1))]
            arrays.append(chosen.excitation(image, *self.unit()))
        return arrays

    def picture(self) -> np.ndarray:
        if self.get_query_arguments("digit"):
            return self.settings["digits"].image(int(self.number("digit", 0, 1e6)))
        if not self.request.body:
            raise LabError("there is no picture; draw a digit")
        return read_digit(io.BytesIO(self.request.body), self.get_query_argument("name", "")[:200] or "The drawing")


def disturb(image: np.ndarray, noise: float, right: float, down: float) -> np.ndarray:
    """Move an image and add noise.

    Parameters
    ----------
    image : float32 array [784]
    noise : float
        The standard deviation of what is added to each pixel. The same noise
        comes back every time, so that it does not flicker while one draws.
    right, down : float
        By how many whole pixels to move; what leaves the image is lost.

    Returns
    -------
    float32 array [784]
        Values in [0, 1].
    """
    square = image.reshape(IMAGE_SIDE, IMAGE_SIDE)
    moved = ndimage.shift(square, (round(down), round(right)), order=0)
    grain = np.random.default_rng(1998).standard_normal(square.shape)
    return np.float32(np.clip(moved + noise * grain, 0, 1)).ravel()


# For tornado's Application: a pattern of the address, its handler, the handler's arguments.
PAGE = {"path": Path(__file__).parent / "page", "default_filename": "page.html"}
ANSWERS: list[Any] = [
    (r"/(page\.css|page\.js|panels\.js|paper\.js|)", Page, PAGE),
    (r"/networks", Menu),
    (r"/layers", Layers),
    (r"/filter", Filter),
    (r"/digit", Digit),
    (r"/read", Read),
]
