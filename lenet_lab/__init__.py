"""The TensorFlow 1 LeNet-5 lab (graph, placeholders, session, TensorBoard) on today's TensorFlow."""

from lenet_lab import input_data
from lenet_lab.analysis.evaluation import evaluate, print_accuracy
from lenet_lab.analysis.layers import count_parameters, parameter_table
from lenet_lab.checkpoints import restore_model, resume_run, save_model
from lenet_lab.classifier import Classifier, build_classifier
from lenet_lab.compat import tf
from lenet_lab.models import build_lenet5, build_lenet5_dropout, build_softmax_regression
from lenet_lab.paths import enter_lab, next_path
from lenet_lab.runs import start_run
from lenet_lab.training import optimize

__version__ = "0.2.0"

__all__ = [
    "Classifier",
    "build_classifier",
    "build_lenet5",
    "build_lenet5_dropout",
    "build_softmax_regression",
    "count_parameters",
    "enter_lab",
    "evaluate",
    "input_data",
    "next_path",
    "optimize",
    "parameter_table",
    "print_accuracy",
    "restore_model",
    "resume_run",
    "save_model",
    "start_run",
    "tf",
]
