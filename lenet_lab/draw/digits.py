"""Test digits to try: MNIST's, or stand-in digits where MNIST can't be had."""

from functools import cached_property
from typing import Any

import numpy as np

from lenet_lab.analysis.inference import find_mistakes
from lenet_lab.draw.networks import Network
from lenet_lab.input_data import DataSet, read_data_sets
from lenet_lab.paths import LabError


class Digits:
    """The test digits, read when the first one is chosen, and which of them each network misreads."""

    def __init__(self, folder: str = "MNIST_data/"):
        self.folder = folder
        self._misread: dict[Network, np.ndarray] = {}

    @cached_property
    def _test(self) -> DataSet:
        return read_data_sets(self.folder, one_hot=True).test

    def choose(self, misread_by: Network | None = None) -> dict[str, Any]:
        """Choose a test digit at random.

        Parameters
        ----------
        misread_by : Network, optional
            Choose among the digits that this network misreads.

        Returns
        -------
        dict
            `number` in the test set, `label`, `data` (the data set's name), and
            `pixels`, 784 whole numbers from 0 to 255; 255 is ink.

        Raises
        ------
        LabError
            If the network misreads none, or the data can't be read.
        """
        test = self._test
        candidates = np.arange(test.num_examples) if misread_by is None else self._misread_by(misread_by)
        if not len(candidates):
            raise LabError(f"the network misreads none of the {test.num_examples} test digits of {test.name}")
        number = int(np.random.default_rng().choice(candidates))
        pixels = np.rint(test.images[number] * 255).astype(int).tolist()
        return {"number": number, "label": int(test.labels[number].argmax()), "data": test.name, "pixels": pixels}

    def image(self, number: int) -> np.ndarray:
        """The image of a test digit, float32 [784]; a LabError if there is none of this number."""
        if not 0 <= number < self._test.num_examples:
            raise LabError(f"there is no test digit {number}, expected 0 to {self._test.num_examples - 1}")
        return self._test.images[number]

    def _misread_by(self, network: Network) -> np.ndarray:
        if network not in self._misread:
            self._misread[network] = find_mistakes(network.model, self._test).index
        return self._misread[network]
