"""Two steps of LeNet-5 computed on blocks of pixels: the same values, but for rounding, from larger products.

A processor multiplies matrices of some dozens of columns far better than it
convolves one image into six maps. So here 2x2 or 4x4 neighbouring outputs are
one row of a product. The blocks overlap less than the outputs do, so there are
more multiplications (2.6 times as many for the first layer), in less time.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lenet_lab.compat import tf


class Shortcut(NamedTuple):
    """A tensor of a graph, and how to compute it in another way from others."""

    result: tf.Tensor
    inputs: list[tf.Tensor]
    compute: Callable[..., tf.Tensor]


def find_shortcuts(operations: list[tf.Operation]) -> list[Shortcut]:
    """What of a graph can be computed on blocks; the order is the operations' own.

    Parameters
    ----------
    operations : list of tf.Operation
        In the order in which they were made.
    """
    found = []
    for op in operations:
        pooled = _match(op, "MaxPool", ["Relu", "AddV2", "Conv2D"])
        if pooled and _fits(pooled[-1], b"SAME", 4) and _is_2x2_pooling(op):
            convolution, sum_ = pooled[-1], pooled[-2]
            found.append(Shortcut(op.outputs[0], [*convolution.inputs, sum_.inputs[1]], convolve_relu_pool))
        elif op.type == "Conv2D" and _fits(op, b"VALID", 2):
            found.append(Shortcut(op.outputs[0], list(op.inputs), convolve))
    return found


def convolve_relu_pool(x: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Convolution over one map with padding SAME, bias, ReLU and 2x2 max pooling.

    Each 4x4 block of outputs is one row of a matrix product. The largest of
    each 2x2 is taken before bias and ReLU, which change no order.

    Parameters
    ----------
    x : float32 tensor [n, rows, columns, 1]
        With rows and columns that are multiples of 4.
    weights : float32 tensor [5, 5, 1, maps]
    bias : float32 tensor [maps]

    Returns
    -------
    float32 tensor [n, rows / 2, columns / 2, maps]
    """
    rows, columns = (size // 4 for size in x.shape.as_list()[1:3])
    maps = weights.shape.as_list()[3]
    padded = tf.reshape(tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]]), [-1, rows + 1, 4, columns + 1, 4])
    blocks = tf.reshape(tf.transpose(padded, [0, 1, 3, 2, 4]), [-1, rows + 1, columns + 1, 16])
    patches = tf.concat([blocks[:, y : y + rows, x : x + columns] for y in (0, 1) for x in (0, 1)], axis=3)
    # Columns of the product: the place in a 2x2 pool, then which of the four pools, then the map.
    line = taps(5, 4).reshape(2, 4, 2, 2, 5)
    spread = np.einsum("biPpt,cjQqu->bcijpqPQtu", line, line).reshape(64 * 16, 25)
    columns_of_weights = tf.reshape(tf.matmul(spread, tf.reshape(weights, [25, maps])), [64, 16 * maps])
    products = tf.matmul(tf.reshape(patches, [-1, 64]), columns_of_weights)
    largest = tf.nn.max_pool(tf.reshape(products, [-1, 2, 2, 4 * maps]), ksize=2, strides=2, padding="VALID")
    activations = tf.nn.relu(tf.reshape(largest, [-1, rows, columns, 4 * maps]) + tf.tile(bias, [4]))
    return tf.nn.depth_to_space(activations, 2)


@tf.custom_gradient
def convolve(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """`tf.nn.conv2d` with padding VALID, whose gradient with respect to x is computed on 2x2 blocks.

    Parameters
    ----------
    x : float32 tensor [n, rows, columns, maps]
        With even rows and columns.
    weights : float32 tensor [5, 5, maps, new maps]

    Returns
    -------
    float32 tensor [n, rows - 4, columns - 4, new maps]
    """
    _, rows, columns, maps = x.shape.as_list()
    new_maps = weights.shape.as_list()[3]

    def gradient(of_result: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        line = taps(5, 2)
        spread = np.einsum("bipt,cjqu->bcijpqtu", line, line).reshape(36 * 4, 25)
        spread_weights = tf.matmul(spread, tf.reshape(weights, [25, maps * new_maps]))
        of_blocks = tf.transpose(tf.reshape(spread_weights, [36, 4, maps, new_maps]), [0, 2, 1, 3])
        shape = tf.stack([tf.shape(x)[0], rows // 2, columns // 2, 4 * maps])
        kernel = tf.reshape(of_blocks, [3, 3, 4 * maps, 4 * new_maps])
        of_x = tf.nn.conv2d_backprop_input(
            shape, kernel, tf.nn.space_to_depth(of_result, 2), strides=[1, 1, 1, 1], padding="VALID"
        )
        of_weights = tf.nn.conv2d_backprop_filter(
            x, [5, 5, maps, new_maps], of_result, strides=[1, 1, 1, 1], padding="VALID"
        )
        return tf.nn.depth_to_space(of_x, 2), of_weights

    return tf.nn.conv2d(x, weights, strides=1, padding="VALID"), gradient


def taps(size: int, block: int) -> np.ndarray:
    """Along one line: which pixel goes into which of a block's outputs, through which tap of the filter.

    Returns
    -------
    float32 array [blocks, block, block, size] of zeros and ones
        Block of the pixel, its place there, the output, the tap.
    """
    blocks = -(-(block + size - 1) // block)
    pixel = np.arange(blocks * block).reshape(blocks, block, 1, 1)
    return (pixel - np.arange(block)[:, None] == np.arange(size)).astype(np.float32)


def _match(op: tf.Operation, kind: str, before: list[str]) -> list[tf.Operation]:
    """A chain of operations that ends in `op`, each the first input of the one after; empty if it isn't there."""
    chain = [op]
    if op.type != kind:
        return []
    for kind in before:
        op = op.inputs[0].op
        if op.type != kind:
            return []
        chain.append(op)
    return chain


def _fits(convolution: tf.Operation, padding: bytes, block: int) -> bool:
    x, weights = (tensor.shape for tensor in convolution.inputs)
    if x.rank != 4 or weights.rank != 4:
        return False
    x, weights = x.as_list(), weights.as_list()
    if None in x[1:] or weights[:2] != [5, 5]:
        return False
    return (
        convolution.get_attr("padding") == padding
        and convolution.get_attr("strides") == [1, 1, 1, 1] == convolution.get_attr("dilations")
        and convolution.get_attr("data_format") == b"NHWC"
        and x[1] % block == 0 == x[2] % block
        and (padding == b"VALID" or x[3] == 1)
    )


def _is_2x2_pooling(op: tf.Operation) -> bool:
    return (
        op.get_attr("ksize") == [1, 2, 2, 1] == op.get_attr("strides")
        and op.get_attr("padding") == b"VALID"
        and op.get_attr("data_format") == b"NHWC"
    )
