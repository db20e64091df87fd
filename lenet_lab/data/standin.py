"""Stand-in digits for when MNIST can't be reached: scikit-learn's scans, enlarged and distorted.

The source is scikit-learn's `load_digits`: 1,797 scans of 8x8 pixels by 43
writers (Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI).
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lenet_lab.data import idx

DATA_NAME = "stand-in digits"
MARKER = "STAND-IN.txt"
SEED = 1998  # one data set for everybody
SIZES = {"validation": 5_000, "train": 55_000, "test": 10_000}
FILE_PARTS = {"train": ("validation", "train"), "t10k": ("test",)}  # which parts each pair of files holds
CHUNK = 1_000  # images distorted at a time, which takes 30 MB for coordinates


def is_standin(folder: str | Path) -> bool:
    """Return whether a folder's IDX files are the stand-in digits.

    Parameters
    ----------
    folder : str or pathlib.Path
        The folder of the data files.

    Returns
    -------
    bool
        Whether the folder holds the stand-in's marker.
    """
    return Path(folder, MARKER).exists()


def make(folder: str | Path, sizes: dict[str, int] | None = None) -> Path:
    """Write the stand-in digits, once, as MNIST's four files.

    Every image is one scan, enlarged to 28x28, then rotated, sheared, scaled,
    shifted and slightly warped at random. The scans are split first, so no scan
    is in two parts. The training file begins with the validation images, where
    `read_data_sets` expects them. The same scans and the same SciPy give the
    same bytes.

    Parameters
    ----------
    folder : str or pathlib.Path
        The new folder; its parent must exist. If the folder holds the stand-in
        already, only files that are missing are written.
    sizes : dict of str to int, optional
        The number of images of each part, as in `SIZES`; smaller in tests.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    DataError
        If the files can't be written, as on a full disk. No part of them stays.
    """
    folder = Path(folder)
    if _is_complete(folder):
        return folder
    try:
        # Everything is written aside and moved at once, so a folder with the final name is complete.
        aside = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
        try:
            _write_files(aside, sizes or SIZES)
            _move(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise idx.DataError(
            f"{folder}: the {DATA_NAME} can't be written there ({error.strerror or error}); free some space, "
            "remove what is in the way, or choose a folder that you can write to"
        ) from error
    return folder


def split_scans(rng: np.random.RandomState, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Distribute the scans over the parts, class by class, in the proportions of `SIZES`.

    Parameters
    ----------
    rng : numpy.random.RandomState
        Shuffles the scans of each class.
    labels : numpy.ndarray
        The class of each scan, int [scans].

    Returns
    -------
    dict of str to numpy.ndarray
        The numbers of the scans in each part.
    """
    total = sum(SIZES.values())
    parts: dict[str, list[np.ndarray]] = {part: [] for part in SIZES}
    for digit in range(10):
        scans = rng.permutation(np.flatnonzero(labels == digit))
        first = round(len(scans) * SIZES["validation"] / total)
        second = first + round(len(scans) * SIZES["test"] / total)
        for part, chosen in zip(("validation", "test", "train"), np.split(scans, [first, second])):
            parts[part].append(chosen)
    return {part: np.concatenate(chosen) for part, chosen in parts.items()}


def distort(rng: np.random.RandomState, scans: np.ndarray) -> np.ndarray:
    """Distort images at random, each in its own way.

    Parameters
    ----------
    rng : numpy.random.RandomState
        What the distortions are drawn from.
    scans : numpy.ndarray
        The images, float [count, 28, 28]; 0 is background, 255 is ink.

    Returns
    -------
    numpy.ndarray
        The distorted images, uint8 [count, 28, 28].
    """
    from scipy.ndimage import map_coordinates  # late: only the stand-in needs SciPy and scikit-learn

    count, side, _ = scans.shape
    centre = (side - 1) / 2
    grid = np.stack(np.meshgrid(*[np.arange(side) - centre] * 2, indexing="ij")).reshape(2, -1)
    angle = np.radians(rng.uniform(-8, 8, count))
    shear, stretch_y, stretch_x = rng.uniform(-0.1, 0.1, (3, count))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    skew = np.array([[1 + stretch_y, np.zeros(count)], [shear, 1 + stretch_x]])
    matrices = np.einsum("ijn,jkn->nik", rotation, skew)
    places = matrices @ grid + centre + rng.uniform(-1, 1, (count, 2, 1))
    places += rng.normal(0, 0.45, (count, 2, 16)) @ _bumps(side)  # pixels: a small, smooth warp
    # Each pixel is read at (image, row, column), between the pixels of its own image.
    image = np.broadcast_to(np.arange(count)[:, None], places[:, 0].shape)
    coordinates = np.stack([image, places[:, 0], places[:, 1]])
    values = map_coordinates(scans, coordinates, output=np.float64, order=1, mode="grid-constant")
    return np.rint(values).clip(0, 255).astype(np.uint8).reshape(scans.shape)


def _is_complete(folder: Path) -> bool:
    files = (folder / f"{file}-{kind}.gz" for file in FILE_PARTS for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    return is_standin(folder) and all(file.exists() for file in files)


def _write_files(folder: Path, sizes: dict[str, int]) -> None:
    images, labels = _draw(sizes)
    for file, parts in FILE_PARTS.items():
        idx.write(folder / f"{file}-images-idx3-ubyte.gz", np.concatenate([images[part] for part in parts]))
        idx.write(folder / f"{file}-labels-idx1-ubyte.gz", np.concatenate([labels[part] for part in parts]))
    (folder / MARKER).write_text(f"These files are {DATA_NAME}, made by lenet_lab. They are not MNIST.\n")
    folder.chmod(0o755)  # `mkdtemp` lets only its owner in


def _move(aside: Path, folder: Path) -> None:
    """Give the new folder its final name; if the stand-in is there already, add only the files that it lacks."""
    try:
        os.rename(aside, folder)
    except OSError:
        if not is_standin(folder):
            raise
        # Another process was quicker, or a file was deleted.
        for file in aside.iterdir():
            if not (folder / file.name).exists():
                os.replace(file, folder / file.name)


def _draw(sizes: dict[str, int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draw the images, uint8 [count, 28, 28, 1], and the labels, uint8 [count], of each part."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    rng = np.random.RandomState(SEED)
    digits = load_digits()
    # Enlarged to 24x24 in a 28x28 frame: about the margin that MNIST leaves, and room to rotate.
    large = zoom(digits.images * (255 / 16), (1, 3, 3), order=3, mode="grid-constant", grid_mode=True)
    large = np.pad(large, ((0, 0), (2, 2), (2, 2))).clip(0, 255).astype(np.float32)
    images, labels = {}, {}
    with tqdm(total=sum(sizes.values()), desc=f"making {DATA_NAME}", unit="image", leave=False) as bar:
        for part, scans in split_scans(rng, digits.target).items():
            chosen = rng.permutation(np.resize(scans, sizes[part]))
            pieces = []
            for start in range(0, len(chosen), CHUNK):
                pieces.append(distort(rng, large[chosen[start : start + CHUNK]]))
                bar.update(len(pieces[-1]))
            images[part] = np.concatenate(pieces)[..., np.newaxis]
            labels[part] = digits.target[chosen].astype(np.uint8)
    return images, labels


def _bumps(side: int) -> np.ndarray:
    """Sixteen smooth bumps that tile the image: float [16, side * side]."""
    centres = (np.arange(4) + 0.5) * side / 4 - 0.5
    profile = np.exp(-0.5 * ((np.arange(side) - centres[:, None]) / (side / 6)) ** 2)
    return np.einsum("ay,bx->abyx", profile, profile).reshape(16, side * side)
