"""The network that comes with the package, and how it is chosen from a configuration's runs."""

import json
from pathlib import Path
from typing import Any

from lenet_lab.analysis.inference import open_model
from lenet_lab.analysis.results import RESULT_FILE
from lenet_lab.beyond.experiments import CONFIGURATIONS
from lenet_lab.checkpoints import MODEL_FILE, save_model
from lenet_lab.paths import LabError, whole_file

KEPT = Path(__file__).parent / "trained"
KEPT_MODEL = KEPT / MODEL_FILE


def keep_best(results: dict[str, Any], name: str, folder: str | Path = KEPT) -> dict[str, Any]:
    """Save a configuration's best network: that of the run with the highest accuracy on the validation set.

    Parameters
    ----------
    results : dict
        From `run_experiments`.
    name : str
        A key of `CONFIGURATIONS`. The directories of its runs must still exist.
    folder : str or path, default `KEPT`
        An existing folder or a new one. It gets the network's variables, without
        the optimizer's, and a `result.json` that says how they were trained.

    Returns
    -------
    dict
        The content of `result.json`.

    Raises
    ------
    ValueError
        If the configuration has no runs, or the best run's saved model is gone.
    """
    runs = results["runs"].get(name)
    if not runs:
        raise LabError(f"there is no run of {name!r} to keep; there are runs of {', '.join(results['runs'])}")
    seed = max(runs, key=lambda seed: runs[seed]["validation_accuracy"][-1])
    best = runs[seed]
    about = {
        "title": CONFIGURATIONS[name].title,
        "data": results["data"],
        "command": f"make experiments NAMES={name}",
        "seed": int(seed),
        "best_on_validation_of_seeds": sorted(map(int, runs)),
        "validation_accuracy": best["validation_accuracy"][-1],
        "test_accuracy": best["test"]["accuracy"],
    } | {key: best[key] for key in ("epochs", "parameters", "tensorflow", "python", "cores")}
    with open_model(f"{best['directory']}/{MODEL_FILE}") as model:
        save_model(model, folder)
    with whole_file(Path(folder, RESULT_FILE)) as part:
        part.write_text(json.dumps(about, indent=1) + "\n")
    return about
