"""A digit of your own: a picture brought to MNIST's form, as MNIST was made, and classified."""

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from lenet_lab import results
from lenet_lab.classifier import build_classifier
from lenet_lab.compat import tf
from lenet_lab.inference import predict
from lenet_lab.models import build_lenet5, build_softmax_regression
from lenet_lab.runs import MODEL_FILE, Run, restore_model, saved_shapes, start_run

KEPT = Path(__file__).parent / "trained"  # the best LeNet-5 of notebook 6, see `experiments.keep_best`
KEPT_MODEL = KEPT / MODEL_FILE
MOST_PIXELS = 50_000_000  # of a picture; a phone's have about 12 million
WORKING_SIDE = 280  # what larger pictures are reduced to, ten times MNIST's side
LEAST_CONTRAST = 0.15  # between ink and ground, of the whole range
DIGIT_SIDE, SIDE = 20, 28  # the box that MNIST's digits fit in, and the image around it


class ImageError(ValueError):
    """A picture that can't be brought to MNIST's form; the message says which and why."""


class Prediction(NamedTuple):
    """What the network saw and what it says."""

    image: np.ndarray  # float32 [784], values in [0, 1], ink is 1
    probabilities: np.ndarray  # float32 [10]

    @property
    def digit(self) -> int:
        return int(self.probabilities.argmax())


def predict_image(run: Run, path: str | Path) -> Prediction:
    """Classify a photo or a drawing of a digit, dark on light or light on dark, of any size.

    Raises
    ------
    ImageError
        If the picture can't be read, or does not show one digit.
    """
    image = read_digit(path)
    return Prediction(image, predict(run, image[None])[0])


def read_digit(path: str | Path) -> np.ndarray:
    """Bring a picture of a digit to MNIST's form.

    Grey, ink bright on black, cropped, scaled to fit 20x20, and laid into 28x28
    with its centre of mass in the centre (LeCun's page on MNIST; "Gradient-Based
    Learning Applied to Document Recognition", section III.A).

    Parameters
    ----------
    path : str or Path
        A file in any format that Pillow reads.

    Returns
    -------
    float32 array [784]
        Values in [0, 1], ink is 1.

    Raises
    ------
    ImageError
        If the picture can't be read, is animated or too large, is empty, or
        shows several digits.
    """
    ink = _ink(_read_grey(path), path)
    marks = _remove_specks(ink)
    _refuse_several(marks, path)
    rows, columns = (np.flatnonzero(marks.any(axis=axis)) for axis in (1, 0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centre(_fit(box)).ravel()


def open_model(path: str | Path = KEPT_MODEL) -> Run:
    """A run with the variables of a saved model, by default the best; whichever of the lab's networks it is of.

    Its event file goes to a temporary folder. To be closed, or for a `with` block.

    Raises
    ------
    ValueError
        If there is no saved model of the lab at this path.
    """
    saved = saved_shapes(str(path))
    build = build_lenet5 if "model/lenet5/layer1/weights1" in saved else build_softmax_regression
    # Without Adam's slots, a model that any optimizer trained can be restored.
    classifier = build_classifier(build, tf.train.GradientDescentOptimizer(0.0))
    run = start_run(classifier, tempfile.mkdtemp(prefix="lenet_lab_") + "/run_%02d")
    try:
        restore_model(run, str(path))
    except ValueError:
        run.close()
        raise
    return run


def told_of(model: str | Path = KEPT_MODEL) -> dict[str, Any]:
    """What the result beside a saved model tells of it, among that ``"title"`` and ``"data"``."""
    kept = Path(model).parent / results.FILE
    untold = {"title": "a model", "data": "data that is not told"}
    return json.loads(kept.read_text()) if kept.exists() else untold


def _read_grey(path: str | Path) -> np.ndarray:
    """The picture as float [rows, columns] in [0, 1], not larger than the working side."""
    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ImageError(f"{path} has {picture.n_frames} frames, expected a still picture")
            if picture.width * picture.height > MOST_PIXELS:
                raise ImageError(
                    f"{path} has {picture.width} x {picture.height} pixels, expected at most {MOST_PIXELS:,}"
                )
            picture = ImageOps.exif_transpose(picture)  # phones store the way up beside the pixels
            if picture.mode.startswith("I") or picture.mode == "F":  # 16 bits a pixel or more
                values = np.asarray(picture, np.float64)
                picture = Image.fromarray(np.uint8(255 * values / max(values.max(), 1)))
            picture = picture.convert("RGBA")
            paper = Image.new("RGBA", picture.size, "white")
            grey = Image.alpha_composite(paper, picture).convert("L")
            grey.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
            return np.asarray(grey, np.float64) / 255
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist; expected a picture of a digit") from error
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise ImageError(f"{path} can't be read as a picture ({error}); expected PNG, JPEG or the like") from error


def _ink(grey: np.ndarray, path: str | Path) -> np.ndarray:
    """How much ink there is, float [rows, columns] in [0, 1]: the difference from the ground at the edges."""
    rows, columns = grey.shape
    if min(rows, columns) < 5:
        raise ImageError(f"{path} has {columns} x {rows} pixels, expected at least 5 x 5")
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    plane = np.stack([np.ones_like(x), x, y], axis=-1)  # light falls off across a photo
    edge = np.zeros(grey.shape, bool)
    width = max(1, min(rows, columns) // 20)
    edge[:width] = edge[-width:] = edge[:, :width] = edge[:, -width:] = True
    slope, *_ = np.linalg.lstsq(plane[edge], grey[edge], rcond=None)
    difference = grey - plane @ slope
    # Of dark on light and light on dark, the one that stands out more.
    if -difference.min() > difference.max():
        difference = -difference
    noise = np.quantile(np.abs(difference[edge]), 0.9)
    strongest = np.quantile(difference, 0.995)
    if strongest < max(LEAST_CONTRAST, 2 * noise):
        raise ImageError(f"{path} shows no digit: nothing stands out from the ground by {LEAST_CONTRAST:.0%}")
    ink = np.clip(difference / strongest, 0, 1)
    return np.where(ink > 0.2, ink, 0)


def _remove_specks(ink: np.ndarray) -> np.ndarray:
    """Blank, in place, the marks far smaller than the largest; the others, labelled, as int [rows, columns]."""
    marks, count = ndimage.label(ink > 0.35, structure=np.ones((3, 3)))
    sizes = np.bincount(marks.ravel(), minlength=count + 1)[1:]
    specks = np.isin(marks, 1 + np.flatnonzero(sizes < 0.04 * sizes.max()))
    ink[specks] = marks[specks] = 0
    return marks


def _refuse_several(marks: np.ndarray, path: str | Path) -> None:
    """A digit may be of several strokes, but two tall marks side by side, or one above the other, are two digits."""
    boxes = [box for box in ndimage.find_objects(marks) if box]
    rows = [slice_.indices(marks.shape[0])[:2] for slice_, _ in boxes]
    height = max(end for _, end in rows) - min(start for start, _ in rows)
    for first in boxes:
        for second in boxes:
            beside = first[1].stop < second[1].start
            above = first[0].stop < second[0].start
            heights = [box[0].stop - box[0].start for box in (first, second)]
            if (beside and min(heights) > 0.6 * height) or (above and min(heights) > 0.35 * height):
                raise ImageError(f"{path} shows several digits, expected one: crop it")


def _fit(box: np.ndarray) -> np.ndarray:
    """Scaled to fit 20x20, its proportions kept."""
    scale = DIGIT_SIDE / max(box.shape)
    rows, columns = (max(1, round(side * scale)) for side in box.shape)
    resized = Image.fromarray(np.float32(box)).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized), 0, 1)


def _centre(digit: np.ndarray) -> np.ndarray:
    """Laid into 28x28, the centre of mass in the centre as near as whole pixels allow."""
    image = np.zeros((SIDE, SIDE), np.float32)
    starts = []
    for side, centre in zip(digit.shape, ndimage.center_of_mass(digit)):
        starts.append(int(np.clip(round((SIDE - 1) / 2 - centre), 0, SIDE - side)))
    image[starts[0] : starts[0] + digit.shape[0], starts[1] : starts[1] + digit.shape[1]] = digit
    return image
