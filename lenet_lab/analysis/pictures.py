"""Pictures of digits: a photo or drawing is converted to MNIST's form and classified."""

import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from lenet_lab.analysis.inference import predict
from lenet_lab.input_data import IMAGE_SIDE
from lenet_lab.paths import LabError
from lenet_lab.runs import Model

MAX_PIXELS = 50_000_000  # of a picture; a phone's have about 12 million
WORKING_SIDE = 280  # pixels, ten times MNIST's side; larger pictures are reduced to it
MIN_SIDE = 5  # pixels, after that
MIN_CONTRAST = 0.15  # between ink and background, as a share of the whole range
DIGIT_BOX_SIDE = 20  # pixels; the square that MNIST's digits fit in, inside the image of 28x28


class ImageError(LabError):
    """A picture can't be converted to MNIST's form; the message says which one and why."""


class Prediction(NamedTuple):
    """What the network saw, and the probabilities that it computed."""

    image: np.ndarray  # float32 [784], values in [0, 1], ink is 1
    probabilities: np.ndarray  # float32 [10]

    @property
    def digit(self) -> int:
        """The most probable digit."""
        return int(self.probabilities.argmax())


def predict_image(model: Model, path: str | Path) -> Prediction:
    """Classify a photo or drawing of a digit, dark on light or light on dark, of any size.

    Parameters
    ----------
    model : Model
        An opened model or a run.
    path : str or pathlib.Path
        A file in any format that Pillow reads.

    Returns
    -------
    Prediction
        The image as the network saw it, and the probability of each digit.

    Raises
    ------
    ImageError
        If the picture can't be read or does not show exactly one digit.
    """
    image = read_digit(path)
    return Prediction(image, predict(model, image[None])[0])


def read_digit(picture: str | Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """Convert a picture of a digit to MNIST's form.

    The digit becomes grey on black, is cropped, scaled to fit 20x20 pixels, and
    placed in 28x28 pixels with its centre of mass in the centre (LeCun's page on
    MNIST; "Gradient-Based Learning Applied to Document Recognition", section
    III.A).

    Parameters
    ----------
    picture : str, pathlib.Path or binary file
        In any format that Pillow reads.
    name : str, optional
        What errors call the picture; by default its path.

    Returns
    -------
    numpy.ndarray
        The image, float32 [784], values in [0, 1]; ink is 1.

    Raises
    ------
    ImageError
        If the picture can't be read, is animated, too large or too small, is
        empty, or shows several digits.
    """
    name = name or str(picture)
    ink = _ink(_read_grey(picture, name), name)
    marks = _remove_specks(ink)
    _refuse_several(marks, name)
    rows, columns = (np.flatnonzero(marks.any(axis=axis)) for axis in (1, 0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centre(_fit(box)).ravel()


def _read_grey(picture: str | Path | BinaryIO, name: str) -> np.ndarray:
    """Read a picture as float [rows, columns] in [0, 1], not larger than the working side."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on files that are refused here or read all the same
            with Image.open(picture) as opened:
                _check_kind(opened, name)
                upright = ImageOps.exif_transpose(opened)  # phones store the orientation beside the pixels
                grey = _to_grey(upright)
        grey.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
        return np.asarray(grey, np.float64) / 255
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist; expected a picture of a digit") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} can't be read as a picture; expected PNG, JPEG or the like") from error
    except Exception as error:  # a damaged file can make Pillow raise almost anything
        raise ImageError(f"{name} can't be read as a picture ({error}); expected PNG, JPEG or the like") from error


def _check_kind(picture: Image.Image, name: str) -> None:
    if picture.format == "EPS":  # Pillow would run it with Ghostscript
        raise ImageError(f"{name} is an EPS file, which is a program; expected PNG, JPEG or the like")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # a phone's JPEG with previews behind the photo
        raise ImageError(f"{name} has {frames} frames, expected a still picture")
    if picture.width * picture.height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {picture.width} x {picture.height} pixels, expected at most {MAX_PIXELS:,}; make it smaller"
        )


def _to_grey(picture: Image.Image) -> Image.Image:
    """Convert any picture to 8 bits of grey, transparent parts to white."""
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 bits a pixel or more
        values = np.nan_to_num(np.asarray(picture, np.float64)).clip(0)
        picture = Image.fromarray(np.uint8(255 * values / max(values.max(), 1)))
    picture = picture.convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture).convert("L")


def _ink(grey: np.ndarray, name: str) -> np.ndarray:
    """Find the ink, float [rows, columns] in [0, 1]: the difference from the background, as the edges show it."""
    rows, columns = grey.shape
    if min(rows, columns) < MIN_SIDE:
        raise ImageError(
            f"{name} is too small or too narrow: at the working size of {columns} x {rows} pixels, "
            f"expected at least {MIN_SIDE} x {MIN_SIDE}; crop it around the digit"
        )
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    plane = np.stack([np.ones_like(x), x, y], axis=-1)  # light falls off across a photo
    edge = np.zeros(grey.shape, bool)
    width = max(1, min(rows, columns) // 20)
    edge[:width] = edge[-width:] = edge[:, :width] = edge[:, -width:] = True
    slope, *_ = np.linalg.lstsq(plane[edge], grey[edge], rcond=None)
    difference = grey - plane @ slope
    # The digit may be darker or lighter than the background: take what stands out more.
    if -difference.min() > difference.max():
        difference = -difference
    noise = np.quantile(np.abs(difference[edge]), 0.9)
    strongest = np.quantile(difference, 0.995)
    if strongest < max(MIN_CONTRAST, 2 * noise):
        raise ImageError(
            f"{name} shows no digit, since too little stands out from the background; "
            "expected one dark digit on light paper or the reverse"
        )
    ink = np.clip(difference / strongest, 0, 1)
    return np.where(ink > 0.2, ink, 0)


def _remove_specks(ink: np.ndarray) -> np.ndarray:
    """Blank, in place, the marks far smaller than the largest; return the other marks' labels, int [rows, columns]."""
    marks, count = ndimage.label(ink > 0.35, structure=np.ones((3, 3)))
    sizes = np.bincount(marks.ravel(), minlength=count + 1)[1:]
    specks = np.isin(marks, 1 + np.flatnonzero(sizes < 0.04 * sizes.max()))
    ink[specks] = marks[specks] = 0
    return marks


def _refuse_several(marks: np.ndarray, name: str) -> None:
    """Refuse two tall marks side by side or one above the other; a single digit may have several strokes."""
    boxes = [box for box in ndimage.find_objects(marks) if box]
    height = max(rows.stop for rows, _ in boxes) - min(rows.start for rows, _ in boxes)
    tall = [box for box in boxes if box[0].stop - box[0].start > 0.35 * height]  # of thousands of marks, few are
    for first in tall:
        for second in tall:
            beside = first[1].stop < second[1].start
            above = first[0].stop < second[0].start
            lower = min(box[0].stop - box[0].start for box in (first, second))
            if above or (beside and lower > 0.6 * height):
                raise ImageError(f"{name} shows several digits, expected one; leave only one of them")


def _fit(box: np.ndarray) -> np.ndarray:
    """Scale a cropped digit to fit 20x20, with its proportions kept."""
    scale = DIGIT_BOX_SIDE / max(box.shape)
    rows, columns = (max(1, round(side * scale)) for side in box.shape)
    resized = Image.fromarray(np.float32(box)).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized), 0, 1)


def _centre(digit: np.ndarray) -> np.ndarray:
    """Place a digit in 28x28 pixels, its centre of mass as near to the centre as whole pixels allow."""
    image = np.zeros((IMAGE_SIDE, IMAGE_SIDE), np.float32)
    starts = []
    for side, centre in zip(digit.shape, ndimage.center_of_mass(digit)):
        starts.append(int(np.clip(round((IMAGE_SIDE - 1) / 2 - centre), 0, IMAGE_SIDE - side)))
    image[starts[0] : starts[0] + digit.shape[0], starts[1] : starts[1] + digit.shape[1]] = digit
    return image
