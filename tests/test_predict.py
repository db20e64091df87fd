"""A picture of a digit: how it is brought to MNIST's form, what is refused, the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from lenet_lab import build_classifier, build_lenet5, evaluate, input_data, optimize, save_model, start_run, tf
from lenet_lab.__main__ import main
from lenet_lab.experiments import CONFIGURATIONS, read_experiments
from lenet_lab.inference import predict
from lenet_lab.models import count_parameters
from lenet_lab.paths import EXPERIMENTS
from lenet_lab.predict import ImageError, open_model, predict_image, read_digit, told_of

ROOT = Path(__file__).parent.parent


def drawing(size=(200, 300), ground=255, ink=0, stroke=22):
    """A seven."""
    picture = Image.new("L", size, ground)
    width, height = size
    points = [(0.3 * width, 0.25 * height), (0.7 * width, 0.25 * height), (0.45 * width, 0.75 * height)]
    ImageDraw.Draw(picture).line(points, fill=ink, width=stroke, joint="curve")
    return picture


@pytest.fixture
def saved(tmp_path):
    def save(picture, name="digit.png", **options):
        picture.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def distance(first, second):
    """The mean difference of two images' pixels; a shift by one, which rounding decides, is none."""
    first, second = first.reshape(28, 28), second.reshape(28, 28)
    shifts = [(rows, columns) for rows in (-1, 0, 1) for columns in (-1, 0, 1)]
    return min(np.abs(np.roll(first, shift, axis=(0, 1)) - second).mean() for shift in shifts)


def test_the_form_is_mnists(saved):
    image = read_digit(saved(drawing())).reshape(28, 28)
    rows, columns = np.nonzero(image)
    assert image.dtype == np.float32 and image.max() == pytest.approx(1, abs=0.02) and image.min() == 0
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
    centre = [(np.indices(image.shape)[axis] * image).sum() / image.sum() for axis in (0, 1)]
    np.testing.assert_allclose(centre, 13.5, atol=0.51)


@pytest.mark.parametrize(
    "picture, options",
    [
        (drawing(ground=0, ink=255), {}),  # light on dark
        (drawing(ground=200, ink=90), {}),  # pencil on grey paper
        (drawing((1000, 1500), stroke=110), {}),  # large
        (drawing((40, 60), stroke=5), {}),  # small
        (drawing().convert("RGB"), {"name": "digit.jpg", "quality": 60}),
        (drawing().convert("1"), {}),
        (drawing().convert("P"), {"name": "digit.gif"}),
        (Image.fromarray(np.uint16(np.asarray(drawing(), np.uint32) * 200)), {}),  # 16 bits a pixel
    ],
)
def test_kinds_of_pictures_come_out_alike(saved, picture, options):
    assert distance(read_digit(saved(picture, **options)), read_digit(saved(drawing()))) < 0.03


def test_transparency_uneven_light_and_the_way_up(saved):
    expected = read_digit(saved(drawing()))
    clear = Image.new("RGBA", (200, 300), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), mask=Image.eval(drawing(), lambda value: 255 - value))
    shaded = Image.fromarray(np.uint8(np.asarray(drawing()) * np.linspace(0.5, 1, 200)))
    turned = Image.Exif()
    turned[0x0112] = 6  # as a phone held upright says it
    paths = [
        saved(clear), saved(shaded, "shaded.png"), saved(drawing().rotate(90, expand=True), "turned.jpg", exif=turned)
    ]
    for path in paths:
        assert distance(read_digit(path), expected) < 0.03, path


def test_what_shows_no_single_digit_is_refused(saved, tmp_path):
    two = Image.new("L", (400, 300), 255)
    two.paste(drawing(), (0, 0))
    two.paste(drawing(), (200, 0))
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 255, (100, 100)).astype(np.uint8))
    frames = [drawing(), drawing(ink=50)]
    cut = saved(drawing(), "cut.png").read_bytes()[:150]
    (tmp_path / "cut.png").write_bytes(cut)
    (tmp_path / "text.png").write_text("not a picture")
    refused = {
        "several digits": saved(two, "two.png"),
        "no digit": saved(Image.new("L", (50, 50), 255), "empty.png"),
        "shows": saved(noise, "noise.png"),
        "2 frames": saved(frames[0], "moving.gif", save_all=True, append_images=frames[1:]),
        "at most 50,000,000": saved(Image.new("1", (8000, 8000)), "huge.png"),
        "at least 5 x 5": saved(Image.new("L", (3, 3)), "dot.png"),
        "cut.png can't be read": tmp_path / "cut.png",
        "text.png can't be read": tmp_path / "text.png",
        "does not exist": tmp_path / "nowhere.png",
        "can't be read": tmp_path,
    }
    for message, path in refused.items():
        with pytest.raises(ImageError, match=message):
            read_digit(path)


@pytest.fixture(scope="module")
def model(small_folder, tmp_path_factory):
    """A LeNet-5 trained on the small stand-in, saved."""
    mnist = input_data.read_data_sets(str(small_folder), one_hot=True)
    pattern = str(tmp_path_factory.mktemp("logs") / "run_%02d")
    with start_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.002)), pattern, seed=1) as run:
        optimize(run, mnist, 12, 32)
        return mnist, save_model(run)


def test_pictures_of_a_data_sets_digits_are_read_as_the_digits_are(model, tmp_path):
    mnist, path = model
    agreed = 0
    with open_model(path) as run:
        images = mnist.test.images[:40]
        for image, expected in zip(images, predict(run, images).argmax(axis=1)):
            enlarged = Image.fromarray(np.uint8(255 - 255 * image.reshape(28, 28))).resize((280, 280))
            enlarged.save(tmp_path / "digit.png")
            agreed += predict_image(run, tmp_path / "digit.png").digit == expected
    assert agreed >= 24  # stand-in digits are not centred as MNIST is, and the network is small


def test_the_command_tells_digit_probabilities_and_model(model, saved, capsys):
    assert main(["predict", str(saved(drawing())), "--model", model[1]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-11].startswith("Model: ") and model[1] in lines[-11]
    assert sorted(line.split()[0] for line in lines[-10:]) == [str(digit) for digit in range(10)]
    assert sum(float(line.split()[1].rstrip("%")) for line in lines[-10:]) == pytest.approx(100, abs=1)


def test_without_a_model_named_the_committed_one_reads(saved, capsys):
    assert main(["predict", str(saved(drawing()))]) == 0
    told = told_of()
    assert f"Model: {told['title']}, trained on MNIST" in capsys.readouterr().out


def test_what_is_told_of_the_committed_model_is_in_the_committed_results():
    told = told_of()
    (name,) = (name for name, c in CONFIGURATIONS.items() if c.title == told["title"])
    runs = read_experiments(ROOT / EXPERIMENTS)["runs"][name]
    best = runs[str(told["seed"])]
    assert told["command"].endswith(f"NAMES={name}") and sorted(map(int, runs)) == told["best_on_validation_of_seeds"]
    assert told["epochs"] == best["epochs"] and told["test_accuracy"] == best["test"]["accuracy"]
    assert told["validation_accuracy"] == max(run["validation_accuracy"][-1] for run in runs.values())


def test_the_committed_model_has_the_accuracy_that_is_told_of_it(real_folder):
    mnist = input_data.read_data_sets(real_folder, one_hot=True, fallback=False)
    told = told_of()
    with open_model() as run:
        assert count_parameters(run.classifier.graph) == told["parameters"] == 61_706
        assert evaluate(run, mnist.test) == pytest.approx(told["test_accuracy"], abs=1.5e-4)  # an image, by rounding
        assert evaluate(run, mnist.validation) == pytest.approx(told["validation_accuracy"], abs=3e-4)
    assert told["data"] == "MNIST" and {"command", "seed", "tensorflow", "python"} <= set(told)


def test_the_command_refuses_in_one_sentence(model, saved, capsys):
    assert main(["predict", "nowhere.png", "--model", model[1]]) == 1
    assert main(["predict", str(saved(drawing())), "--model", "nowhere"]) == 1
    errors = capsys.readouterr().err
    assert "nowhere.png does not exist" in errors and "no saved model at nowhere" in errors
    assert "Traceback" not in errors


def test_printed_digits_survive_the_reader(saved):
    font = ImageFont.load_default(size=120)
    for digit in range(10):
        picture = Image.new("L", (160, 200), 255)
        ImageDraw.Draw(picture).text((40, 30), str(digit), fill=0, font=font)
        assert 20 < (read_digit(saved(picture)) > 0.5).sum() < 300
