"""Modules of TensorFlow 1 as an old program sees them, and what to say about a name that is gone."""

import types
from contextlib import suppress
from typing import Any

from lenet_lab.compat import tf

# What to use instead of names that are gone. A key also covers the names below it; the longest key that fits counts.
REPLACEMENTS = {
    "contrib.slim": "tf.layers, and a loop over session.run for slim.learning",
    "contrib.layers": "tf.layers",
    "contrib.learn": "tf.keras, or a loop over session.run",
    "contrib.eager": "tf.enable_eager_execution() at the program's start",
    "contrib.data": "tf.data",
    "contrib.seq2seq": "tf.keras",
    "contrib.factorization": "scikit-learn's KMeans",
    "contrib.tensor_forest": "scikit-learn's RandomForestClassifier",
    "contrib.boosted_trees": "scikit-learn's GradientBoostingClassifier",
    "contrib.metrics": "tf.metrics",
    "contrib.losses": "tf.losses",
    "contrib": "what https://www.tensorflow.org/guide/migrate suggests",
    "estimator": "tf.keras, or a loop over session.run",
    "mul": "tf.multiply",
    "sub": "tf.subtract",
    "neg": "tf.negative",
    "pack": "tf.stack",
    "unpack": "tf.unstack",
    "batch_matmul": "tf.matmul",
    "select": "tf.where",
    "inv": "tf.reciprocal",
    "scalar_summary": "tf.summary.scalar",
    "histogram_summary": "tf.summary.histogram",
    "image_summary": "tf.summary.image",
    "merge_summary": "tf.summary.merge",
    "merge_all_summaries": "tf.summary.merge_all",
    "train.SummaryWriter": "tf.summary.FileWriter",
    "nn.rnn": "tf.nn.static_rnn",
    "nn.seq2seq": "tf.keras",
}
SUCCESSOR = "its successor (see https://www.tensorflow.org/api_docs)"  # for every other name
# Below these, TensorFlow's own modules are handed out as they are.
UNWRAPPED = ("keras", "python", "compat")


class Missing(AttributeError):
    """A name of TensorFlow 1 that is not available; the message says what to use instead."""


class Proxy(types.ModuleType):
    """A module of TensorFlow 1: it has its own members first, then those of a fallback.

    A name that neither of them has raises `Missing`, with a message on what to
    use instead.

    Parameters
    ----------
    path : str
        The module's name below `tensorflow`, such as ``"contrib.rnn"``; empty
        for `tensorflow` itself.
    members : dict, optional
        What `lenet_lab.tf1` provides, by name.
    fallback : module, optional
        Where every other name is looked up.
    """

    def __init__(
        self, path: str, members: dict[str, Any] | None = None, fallback: types.ModuleType | None = None
    ) -> None:
        super().__init__(f"tensorflow.{path}" if path else "tensorflow", getattr(fallback, "__doc__", None))
        self.__dict__.update(members or {}, _path=path, _fallback=fallback, __path__=[])

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}".lstrip(".")
        if name.startswith("__") and not hasattr(self._fallback, name):
            raise AttributeError(name)  # Python asks every module for names like this one
        try:
            value = getattr(self._fallback, name)
        except (AttributeError, ImportError) as error:
            raise Missing(missing_message(path, error)) from error
        if isinstance(value, types.ModuleType) and not path.startswith(UNWRAPPED):
            value = Proxy(path, fallback=value)  # so that names missing in it raise Missing too
        self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *(dir(self._fallback) if self._fallback else ())})

    def load_public_names(self) -> None:
        """Look up every public name and list them in `__all__`, which `from module import *` needs."""
        public = [name for name in dir(self) if not name.startswith("_")]
        for name in public:
            with suppress(Missing):
                getattr(self, name)
        self.__dict__["__all__"] = [name for name in public if name in self.__dict__]


def missing_message(path: str, cause: Exception | None = None) -> str:
    """One sentence that says which name is missing and what to use instead.

    Parameters
    ----------
    path : str
        The name below `tensorflow`, such as ``"contrib.crf"``.
    cause : Exception, optional
        How TensorFlow refused the name.

    Returns
    -------
    str

    Examples
    --------
    >>> missing_message("mul").partition("; ")[2]
    'use tf.multiply'
    """
    if "Keras 3" in str(cause):  # TensorFlow's words where Keras 2 is installed but switched off
        return (
            f"tf.{path} is not in TensorFlow {tf.VERSION} with Keras 3; use Keras 2: set the environment variable "
            "TF_USE_LEGACY_KERAS to 1 before Python starts"
        )
    keys = [key for key in REPLACEMENTS if path == key or path.startswith(key + ".")]
    replacement = REPLACEMENTS[max(keys, key=len)] if keys else SUCCESSOR
    return f"tf.{path} is not in TensorFlow {tf.VERSION}, and lenet_lab.tf1 does not provide it; use {replacement}"
