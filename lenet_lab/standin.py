"""Stand-in digits for when MNIST can't be had: scikit-learn's scans, enlarged and deformed.

The source is scikit-learn's bundled `load_digits`: 1,797 scans of 8x8 by 43
writers (Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI).
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lenet_lab import idx

NAME = "stand-in digits"
MARKER = "STAND-IN.txt"
SEED = 1998  # one data set for everybody
SIZES = {"validation": 5_000, "train": 55_000, "test": 10_000}
CHUNK = 1_000  # images deformed at a time: 30 MB of coordinates


def is_standin(folder: str | Path) -> bool:
    """Whether a folder's IDX files are the stand-in."""
    return Path(folder, MARKER).exists()


def make(folder: str | Path, sizes: dict[str, int] | None = None) -> Path:
    """Write the stand-in as MNIST's four files into a new folder, once.

    Every image is one scan, enlarged to 28x28, turned, sheared, scaled, shifted
    and gently warped at random. The scans are split first, so that no scan is
    on two sides; the training file begins with the validation images, where
    `read_data_sets` looks for them. The same scans and SciPy give the same bytes.

    Parameters
    ----------
    folder : str or path
        Made if it does not exist; if it does, it is taken as it is.
    sizes : dict, optional
        Numbers of images as in `SIZES`, for smaller sets in tests.

    Returns
    -------
    path
        The folder.
    """
    folder = Path(folder)
    if is_standin(folder):
        return folder
    sizes = sizes or SIZES
    # Everything is written aside and moved as a whole: a folder under the final name is complete.
    aside = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    try:
        images, labels = _draw(sizes)
        for file, parts in (("train", ("validation", "train")), ("t10k", ("test",))):
            idx.write(aside / f"{file}-images-idx3-ubyte.gz", np.concatenate([images[p] for p in parts]))
            idx.write(aside / f"{file}-labels-idx1-ubyte.gz", np.concatenate([labels[p] for p in parts]))
        (aside / MARKER).write_text(f"These files are {NAME}, made by lenet_lab. They are not MNIST.\n")
        aside.chmod(0o755)
        os.rename(aside, folder)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not is_standin(folder):  # else another process was quicker
            raise
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return folder


def split_scans(rng: np.random.RandomState, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Scan numbers for each part, class by class in the proportions of `SIZES`.

    Parameters
    ----------
    rng : numpy.random.RandomState
    labels : array [scans]
        The class of each scan.
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


def deform(rng: np.random.RandomState, scans: np.ndarray) -> np.ndarray:
    """Deform images at random, each in its own way.

    Parameters
    ----------
    rng : numpy.random.RandomState
    scans : float array [count, 28, 28]

    Returns
    -------
    uint8 array [count, 28, 28]
    """
    count, size, _ = scans.shape
    centre = (size - 1) / 2
    grid = np.stack(np.meshgrid(*[np.arange(size) - centre] * 2, indexing="ij")).reshape(2, -1)
    angle = np.radians(rng.uniform(-8, 8, count))
    shear, stretch_y, stretch_x = rng.uniform(-0.1, 0.1, (3, count))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    skew = np.array([[1 + stretch_y, np.zeros(count)], [shear, 1 + stretch_x]])
    matrices = np.einsum("ijn,jkn->nik", turn, skew)
    places = matrices @ grid + centre + rng.uniform(-1, 1, (count, 2, 1))
    places += rng.normal(0, 0.45, (count, 2, 16)) @ _bumps(size)  # pixels: a small smooth warp
    return np.rint(_bilinear(scans, places)).clip(0, 255).astype(np.uint8)


def _draw(sizes: dict[str, int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    from scipy.ndimage import zoom  # late: only the stand-in needs SciPy and scikit-learn
    from sklearn.datasets import load_digits

    rng = np.random.RandomState(SEED)
    digits = load_digits()
    # Enlarged to 24x24 in a 28x28 frame: room to turn, about the margin that MNIST leaves.
    large = zoom(digits.images * (255 / 16), (1, 3, 3), order=3, mode="grid-constant", grid_mode=True)
    large = np.pad(large, ((0, 0), (2, 2), (2, 2))).clip(0, 255).astype(np.float32)
    images, labels = {}, {}
    with tqdm(total=sum(sizes.values()), desc=f"making {NAME}", unit="image", leave=False) as bar:
        for part, scans in split_scans(rng, digits.target).items():
            chosen = rng.permutation(np.resize(scans, sizes[part]))
            pieces = []
            for start in range(0, len(chosen), CHUNK):
                pieces.append(deform(rng, large[chosen[start : start + CHUNK]]))
                bar.update(len(pieces[-1]))
            images[part] = np.concatenate(pieces)[..., np.newaxis]
            labels[part] = digits.target[chosen].astype(np.uint8)
    return images, labels


def _bumps(size: int) -> np.ndarray:
    """Sixteen smooth bumps that tile the image: float array [16, size * size]."""
    centres = (np.arange(4) + 0.5) * size / 4 - 0.5
    profile = np.exp(-0.5 * ((np.arange(size) - centres[:, None]) / (size / 6)) ** 2)
    return np.einsum("ay,bx->abyx", profile, profile).reshape(16, size * size)


def _bilinear(images: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Images [count, h, w] read at places [count, 2, h * w] (row, column); 0 outside."""
    count, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows = (places[:, 0] + 1).clip(0, height + 0.999)
    columns = (places[:, 1] + 1).clip(0, width + 0.999)
    top, left = rows.astype(int), columns.astype(int)
    down, right = rows - top, columns - left
    n = np.arange(count)[:, None]
    upper = padded[n, top, left] * (1 - right) + padded[n, top, left + 1] * right
    lower = padded[n, top + 1, left] * (1 - right) + padded[n, top + 1, left + 1] * right
    return (upper * (1 - down) + lower * down).reshape(count, height, width)
