"""Augmentation inside the graph: digits are rotated, sheared, scaled, shifted and elastically distorted at random.

After Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural
Networks Applied to Visual Document Analysis" (2003), section 2.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.interpolate import BSpline

from lenet_lab.compat import number_random_operations, set_seed, tf
from lenet_lab.fast.copies import copy
from lenet_lab.input_data import IMAGE_SIDE
from lenet_lab.models import step_seed
from lenet_lab.paths import LabError

CENTRE = (IMAGE_SIDE - 1) / 2
PADDED = IMAGE_SIDE + 3  # one black row before and two behind, for pixels sampled just outside the image
COLLECTION = "lenet_lab/augmented_images"


class Strength(NamedTuple):
    """The largest changes of an image; for `elastic`, a standard deviation."""

    rotation: float = 10.0  # degrees
    shear: float = 0.1
    scale: float = 0.1  # of the size, drawn separately for height and width
    shift: float = 1.5  # pixels
    elastic: float = 1.0  # pixels, of the displacement of each knot in a grid over the image
    knots: int = 7  # of that grid, in each direction


def augmented(build: Callable[..., tf.Tensor], strength: Strength = Strength()) -> Callable[..., tf.Tensor]:
    """A builder that also puts augmented images into the graph, for `loss_on_augmented_images`.

    The network itself reads plain images.

    Parameters
    ----------
    build : callable
        Such as `build_lenet5`.
    strength : Strength

    Examples
    --------
    >>> build_classifier(augmented(build_lenet5), optimizer, loss_on_augmented_images)  # doctest: +SKIP
    """

    @functools.wraps(build)  # it has the same parameters
    def build_augmented(x: tf.Tensor, *keep_prob: tf.Tensor) -> tf.Tensor:
        with tf.name_scope(None), tf.name_scope("augmentation"):
            # Before the network, since the numbers of random operations depend on their order.
            tf.add_to_collection(COLLECTION, (x, augment(x, strength)))
        return build(x, *keep_prob)

    return build_augmented


def loss_on_augmented_images(loss: tf.Tensor) -> tf.Tensor:
    """The loss that the network of an `augmented` builder has on the augmented images."""
    pairs = tf.get_collection(COLLECTION)
    if not pairs:
        raise LabError("the network has no augmented images; build it with augmented(build)")
    ((x, images),) = pairs
    with tf.name_scope("train_loss"):
        return copy([loss], {x: images})[0]


def augment(x: tf.Tensor, strength: Strength = Strength()) -> tf.Tensor:
    """Change each image at random, differently in each training step.

    The seed is a variable, like that of the dropout, so that a training can be
    repeated and resumed.

    Parameters
    ----------
    x : float32 tensor [None, 784]
        Flat images with values in [0, 1]; the background is 0.
    strength : Strength

    Returns
    -------
    float32 tensor [None, 784]
    """
    count, seed = tf.shape(x)[0], step_seed()
    drawn = tf.random.stateless_uniform([count, 6], seed, minval=-1.0, maxval=1.0)
    rows, columns = _affine(drawn, strength)
    if strength.elastic:
        shape = [count, 2 * strength.knots**2]
        displacements = tf.random.stateless_normal(shape, seed + np.array([1, 0]), stddev=strength.elastic)
        smooth = _interpolate(tf.reshape(displacements, [-1, strength.knots, strength.knots]), strength.knots)
        smooth = tf.reshape(smooth, [-1, 2, IMAGE_SIDE * IMAGE_SIDE])
        rows, columns = rows + smooth[:, 0], columns + smooth[:, 1]
    return _sample(x, rows, columns)


def augment_images(images: np.ndarray, strength: Strength = Strength(), seed: int = 1) -> np.ndarray:
    """Some images as one training step might see them, to look at.

    Parameters
    ----------
    images : float32 array [count, 784]
    strength : Strength
    seed : int, default 1

    Returns
    -------
    float32 array [count, 784]
    """
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 784])
        result = augment(x, strength)
        number_random_operations(graph)
        set_seed(graph, seed)
        session.run(tf.global_variables_initializer())
        return session.run(result, {x: images})


def _affine(drawn: tf.Tensor, strength: Strength) -> tuple[tf.Tensor, tf.Tensor]:
    """The place in its image that each pixel is taken from.

    Rows and columns, [count, 784] each, from six numbers in [-1, 1] for each image.
    """
    angle, shear, tall, wide, down, right = (drawn[:, i, None] for i in range(6))
    angle = angle * strength.rotation * np.pi / 180
    row, column = (np.float32(place).reshape(1, -1) - CENTRE for place in np.mgrid[:IMAGE_SIDE, :IMAGE_SIDE])
    column = column + shear * strength.shear * row
    row, column = row * (1 + tall * strength.scale), column * (1 + wide * strength.scale)
    return (
        tf.cos(angle) * row - tf.sin(angle) * column + CENTRE + down * strength.shift,
        tf.sin(angle) * row + tf.cos(angle) * column + CENTRE + right * strength.shift,
    )


def _interpolate(values: tf.Tensor, knots: int) -> tf.Tensor:
    """Interpolate values on a grid [n, knots, knots] to all pixels [n, 28, 28] by cubic splines."""
    places = np.linspace(0, knots - 3, IMAGE_SIDE)
    basis = BSpline.design_matrix(places, np.arange(-3, knots + 1), 3).toarray().astype(np.float32)
    rows = tf.reshape(tf.reshape(values, [-1, knots]) @ basis.T, [-1, knots, IMAGE_SIDE])
    both = tf.reshape(tf.transpose(rows, [0, 2, 1]), [-1, knots]) @ basis.T
    return tf.transpose(tf.reshape(both, [-1, IMAGE_SIDE, IMAGE_SIDE]), [0, 2, 1])


def _sample(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Bilinear interpolation of the images at places between pixels, black outside. All [count, 784]."""
    padded = tf.pad(tf.reshape(x, [-1, IMAGE_SIDE, IMAGE_SIDE]), [[0, 0], [1, 2], [1, 2]])
    rows, columns = (tf.clip_by_value(place, -1.0, float(IMAGE_SIDE)) for place in (rows, columns))
    above, left = tf.floor(rows), tf.floor(columns)
    first = tf.range(tf.shape(x)[0])[:, None] * PADDED**2  # where each image begins
    corner = first + tf.cast((above + 1) * PADDED + left + 1, tf.int32)
    values = tf.reshape(padded, [-1])
    around = [tf.gather(values, corner + step) for step in (0, 1, PADDED, PADDED + 1)]
    down, right = rows - above, columns - left
    upper = around[0] + (around[1] - around[0]) * right
    lower = around[2] + (around[3] - around[2]) * right
    return upper + (lower - upper) * down
