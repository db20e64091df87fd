"""The networks that the page offers, and what each of them makes of an image."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from lenet_lab.analysis.inference import layer_activations, open_model, predict, trained_weights
from lenet_lab.analysis.layers import layer_outputs
from lenet_lab.analysis.results import describe_model
from lenet_lab.beyond.kept import KEPT_MODEL
from lenet_lab.checkpoints import MODEL_FILE
from lenet_lab.compat import tf
from lenet_lab.input_data import IMAGE_SIDE
from lenet_lab.paths import LabError

IMAGE_SHAPE = (IMAGE_SIDE, IMAGE_SIDE, 1)


class Network:
    """A saved network, opened: the outputs of its layers, and for each unit its weights and what excites it.

    A unit is a map of a convolution or of a pooling, or one of the values of a
    layer without maps.

    Parameters
    ----------
    path : str or Path
        What `save_model` returned.

    Raises
    ------
    LabError
        If there is no saved model of the lab at this path, or its weights are
        not finite.
    """

    def __init__(self, path: str | Path):
        try:
            self.model = open_model(path)
        except IndexError as error:  # TensorFlow's, for a file that ends too early
            raise LabError(f"the model saved at {path} is damaged: {error}") from error
        if not all(np.isfinite(value).all() for value in trained_weights(self.model).values()):
            raise LabError(
                f"the network saved at {path} has weights that are not finite; its training diverged, choose another"
            )
        classifier = self.model.classifier
        self.layers = [
            output
            for output in layer_outputs(classifier.graph, classifier.logits)
            if output.operation != "Reshape"  # the same values once more
        ]
        # The gradient of a unit's highest value by the pixels; `_unit` says of which unit.
        self._gradients = {}
        with classifier.graph.as_default():
            self._unit = tf.placeholder(tf.int32, [])
            for layer in self.layers:
                output = classifier.graph.get_tensor_by_name(layer.tensor)
                values = tf.reshape(output, [-1, layer.shape[-1]])[:, self._unit]
                self._gradients[layer.title] = tf.gradients(values[tf.argmax(values)], classifier.x)[0]

    def describe(self) -> list[dict[str, Any]]:
        """The title and the shape of each layer, for the page."""
        return [{"title": layer.title, "shape": layer.shape} for layer in self.layers]

    def read(self, image: np.ndarray) -> list[np.ndarray]:
        """What the network makes of an image: the output of each layer, then the probabilities.

        Parameters
        ----------
        image : float32 array [784]
            Values in [0, 1]; 1 is ink.

        Returns
        -------
        list of float32 array
            One for each of `layers`, in its shape, then one of shape [10].
        """
        outputs = layer_activations(self.model, image[None])
        return [outputs[layer.title][0] for layer in self.layers] + [predict(self.model, image[None])[0]]

    def excitation(self, image: np.ndarray, title: str, unit: int) -> np.ndarray:
        """How each pixel of an image acts on a unit: the gradient of the unit's highest value by the pixels.

        Times the pixel, it is what the pixel contributes to that value: the
        network is linear piece by piece, so all contributions and those of the
        biases add up to the value.

        Parameters
        ----------
        image : float32 array [784]
        title : str
            The layer's, such as ``"layer1 ReLU"``.
        unit : int
            Which map or which value of the layer, from 0.

        Returns
        -------
        float32 array [784]
            All 0 where the unit's highest value is 0, since its ReLU is off.
        """
        self._find(title, unit)
        feed = {self.model.classifier.x: image[None], self._unit: unit}
        return self.model.session.run(self._gradients[title], feed)[0]

    def filter(self, title: str, unit: int) -> np.ndarray:
        """The weights of a unit, in the form of what it looks at.

        Parameters
        ----------
        title : str
            The layer's; a pooling has the weights of its convolution.
        unit : int
            Which map or which value of the layer, from 0.

        Returns
        -------
        float32 array [pictures, rows, columns]
            One picture for each map below; where there are no maps below, a
            single picture of one row.
        """
        position = self._find(title, unit)
        scope = self.layers[position].scope
        (weights,) = (
            value
            for name, value in trained_weights(self.model).items()
            if value.ndim > 1 and name.rpartition("/")[0].removeprefix("lenet5/") == scope
        )
        own = weights[..., unit]
        if own.ndim == 1:
            below = next((layer.shape for layer in self.layers[position - 1 :: -1] if position), IMAGE_SHAPE)
            own = own.reshape(below if len(below) == 3 else (1, -1, 1))
        return np.moveaxis(own, -1, 0)

    def _find(self, title: str, unit: int) -> int:
        """The position of a layer; a LabError if there is none of this title, or it has no such unit."""
        titles = [layer.title for layer in self.layers]
        if title not in titles:
            raise LabError(f"the network has no layer {title!r}, expected one of {', '.join(titles)}")
        count = self.layers[titles.index(title)].shape[-1]
        if not 0 <= unit < count:
            raise LabError(f"{title} has no unit {unit}, expected 0 to {count - 1}")
        return titles.index(title)


class Networks:
    """The networks that the page offers: those named, notebook 6's, and the runs in `logs`.

    Parameters
    ----------
    named : sequence of str
        Paths that `save_model` returned.
    logs : str or Path, default "logs"
        The folder to search, with all folders below it; it need not exist.
    """

    def __init__(self, named: Sequence[str] = (), logs: str | Path = "logs"):
        self.named, self.logs = list(named), Path(logs)
        self._offered: set[str] = set()
        self._opened: dict[str, tuple[int, Network]] = {}

    def find(self) -> list[dict[str, Any]]:
        """List the networks: those named, notebook 6's, then the runs, the one saved last first.

        Returns
        -------
        list of dict
            `path`; `place`, a short name; `title` and `data`; and `test_accuracy`,
            in [0, 1] or None, all as `describe_model` tells of the network.
        """
        saved_at = {}
        for path in self.logs.rglob(f"{MODEL_FILE}.index"):
            with suppress(FileNotFoundError):  # deleted meanwhile
                saved_at[path] = path.stat().st_mtime
        newest_first = sorted(saved_at, key=lambda path: saved_at[path], reverse=True)
        paths = [*map(Path, self.named), KEPT_MODEL, *(path.with_suffix("") for path in newest_first)]
        networks = [_describe(path) for path in dict.fromkeys(paths)]
        self._offered.update(network["path"] for network in networks)
        return networks

    def open(self, path: str) -> Network:
        """Open a network, once; one that was saved again meanwhile is opened again.

        Parameters
        ----------
        path : str
            The `path` of a network that `find` listed.

        Raises
        ------
        LabError
            If it was not listed, or is none of the lab's networks.
        """
        if path not in self._offered:
            raise LabError(f"{path!r} is none of the networks offered; reload the page")
        index = Path(f"{path}.index")
        saved_at = index.stat().st_mtime_ns if index.exists() else 0
        if self._opened.get(path, (None,))[0] != saved_at:
            self._opened[path] = saved_at, Network(path)
        return self._opened[path][1]


def _describe(path: Path) -> dict[str, Any]:
    about = describe_model(path)
    accuracy = about.get("test_accuracy")
    return {
        "path": str(path),
        "place": "Notebook 6's network" if path == KEPT_MODEL else str(path.parent),
        "title": str(about["title"]),
        "data": str(about["data"]),
        "test_accuracy": accuracy if isinstance(accuracy, float) and 0 <= accuracy <= 1 else None,
    }
