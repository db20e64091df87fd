"""Pictures of digits: how they are converted to MNIST's form, what is refused, the command line."""

import time
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from lenet_lab import (
    build_classifier,
    build_lenet5,
    count_parameters,
    evaluate,
    input_data,
    optimize,
    save_model,
    start_run,
    tf,
)
from lenet_lab.__main__ import main
from lenet_lab.analysis.inference import open_model, predict
from lenet_lab.analysis.pictures import ImageError, predict_image, read_digit
from lenet_lab.analysis.results import describe_model
from lenet_lab.beyond.experiments import CONFIGURATIONS, read_experiments
from lenet_lab.beyond.kept import KEPT_MODEL
from lenet_lab.paths import EXPERIMENTS, LabError

ROOT = Path(__file__).parent.parent


def drawing(size=(200, 300), ground=255, ink=0, stroke=22):
    """Draw a seven."""
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
    """Return the mean difference of two images' pixels at the best shift; rounding decides a shift by one pixel."""
    first, second = first.reshape(28, 28), second.reshape(28, 28)
    shifts = [(rows, columns) for rows in (-1, 0, 1) for columns in (-1, 0, 1)]
    return min(np.abs(np.roll(first, shift, axis=(0, 1)) - second).mean() for shift in shifts)


def test_a_picture_gets_mnists_form(saved):
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
        (Image.fromarray(np.float32(drawing()) / 255), {"name": "digit.tif"}),
        (Image.fromarray(np.where(np.asarray(drawing()) == 0, np.nan, np.float32(9))), {"name": "digit.tif"}),
        # A phone's photo, with a preview behind it.
        (drawing(), {"name": "digit.jpg", "format": "MPO", "save_all": True, "append_images": [drawing((20, 30))]}),
    ],
)
def test_different_kinds_of_pictures_give_the_same_image(saved, picture, options):
    assert distance(read_digit(saved(picture, **options)), read_digit(saved(drawing()))) < 0.03


def test_transparency_uneven_light_and_orientation_do_not_matter(saved):
    expected = read_digit(saved(drawing()))
    clear = Image.new("RGBA", (200, 300), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), mask=Image.eval(drawing(), lambda value: 255 - value))
    shaded = Image.fromarray(np.uint8(np.asarray(drawing()) * np.linspace(0.5, 1, 200)))
    sideways = Image.Exif()
    sideways[0x0112] = 6  # as a phone held upright writes it
    paths = [
        saved(clear),
        saved(shaded, "shaded.png"),
        saved(drawing().rotate(90, expand=True), "sideways.jpg", exif=sideways),
    ]
    for path in paths:
        assert distance(read_digit(path), expected) < 0.03, path


def test_what_does_not_show_exactly_one_digit_is_refused(saved, tmp_path):
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
        "dot.png is too small .* at least 5 x 5": saved(Image.new("L", (3, 3)), "dot.png"),
        "strip.png is too small or too narrow": saved(Image.new("L", (10_000, 100)), "strip.png"),
        "is an EPS file": saved(drawing(), "program.eps"),
        "cut.png can't be read": tmp_path / "cut.png",
        "text.png can't be read": tmp_path / "text.png",
        "does not exist": tmp_path / "nowhere.png",
        "can't be read": tmp_path,
    }
    for message, path in refused.items():
        with pytest.raises(ImageError, match=message):
            read_digit(path)


def test_a_picture_of_thousands_of_marks_is_read_or_refused_at_once(saved):
    spots = np.full((512, 512), 255, np.uint8)
    for shift in ((2, 2), (2, 3), (3, 2), (3, 3)):
        spots[shift[0] : -3 : 5, shift[1] : -3 : 5] = 0
    start = time.perf_counter()
    assert read_digit(saved(Image.fromarray(spots))).shape == (784,)
    assert time.perf_counter() - start < 2  # comparing each of 10,000 marks with each took half a minute


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "tif", "bmp", "webp", "dds", "avif"])
def test_a_damaged_picture_is_read_or_refused_without_a_warning(saved, tmp_path, kind):
    try:
        picture = drawing((60, 90), stroke=7)
        whole = saved(picture.convert("RGB") if kind in ("jpg", "webp", "dds", "avif") else picture, f"whole.{kind}")
    except (OSError, KeyError, ValueError):
        pytest.skip("this Pillow can't write it")
    content, rng = whole.read_bytes(), np.random.RandomState(0)
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.randint(0, min(len(damaged), rng.choice([20, 100, 10_000])), rng.randint(1, 5)):
            damaged[place] = rng.randint(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert read_digit(tmp_path / "damaged").shape == (784,)
        except ImageError as error:
            assert "damaged" in str(error)


@pytest.fixture(scope="module")
def trained(small_folder, tmp_path_factory):
    """Train a LeNet-5 on the small stand-in and save it."""
    mnist = input_data.read_data_sets(str(small_folder), one_hot=True)
    pattern = str(tmp_path_factory.mktemp("logs") / "run_%02d")
    with start_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.002)), pattern, seed=1) as run:
        optimize(run, mnist, 12, 32)
        return mnist, save_model(run)


def test_pictures_of_a_data_sets_digits_are_read_as_the_digits_are(trained, tmp_path):
    mnist, path = trained
    agreed = 0
    with open_model(path) as model:
        images = mnist.test.images[:40]
        for image, expected in zip(images, predict(model, images).argmax(axis=1)):
            enlarged = Image.fromarray(np.uint8(255 - 255 * image.reshape(28, 28))).resize((280, 280))
            enlarged.save(tmp_path / "digit.png")
            agreed += predict_image(model, tmp_path / "digit.png").digit == expected
    assert agreed >= 24  # stand-in digits are not centred like MNIST's, and the network is small


# The command line


def test_the_command_prints_the_model_and_the_probability_of_each_digit(trained, saved, capsys):
    assert main(["predict", str(saved(drawing())), "--model", trained[1]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-11].startswith("Model: ") and trained[1] in lines[-11]
    assert sorted(line.split()[0] for line in lines[-10:]) == [str(digit) for digit in range(10)]
    assert sum(float(line.split()[1].rstrip("%")) for line in lines[-10:]) == pytest.approx(100, abs=1)


def test_without_a_named_model_the_committed_one_reads_the_picture(saved, capsys):
    assert main(["predict", str(saved(drawing()))]) == 0
    assert f"Model: {describe_model(KEPT_MODEL)['title']}, trained on MNIST" in capsys.readouterr().out


def test_the_command_refuses_in_one_line(trained, saved, tmp_path, capsys):
    (tmp_path / "text.png").write_text("not a picture")
    picture = str(saved(drawing()))
    for arguments, message in (
        (["nowhere.png", "--model", trained[1]], "nowhere.png does not exist"),
        ([str(tmp_path / "text.png")], "text.png can't be read as a picture"),
        ([picture, "--model", "nowhere"], "no saved model at nowhere"),
    ):
        assert main(["predict", *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1


def test_a_bug_keeps_its_traceback(monkeypatch, saved):
    def broken(model, path):
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr("lenet_lab.beyond.commands.predict_image", broken)
    with pytest.raises(ValueError, match="operands"):
        main(["predict", str(saved(drawing()))])


def test_a_bad_picture_is_a_mistake_in_what_was_given():
    assert issubclass(ImageError, LabError)


# The committed model


def test_the_description_of_the_committed_model_is_in_the_committed_results():
    description = describe_model(KEPT_MODEL)
    (name,) = (name for name, c in CONFIGURATIONS.items() if c.title == description["title"])
    runs = read_experiments(ROOT / EXPERIMENTS)["runs"][name]
    best = runs[str(description["seed"])]
    assert description["command"].endswith(f"NAMES={name}")
    assert sorted(map(int, runs)) == description["best_on_validation_of_seeds"]
    assert description["epochs"] == best["epochs"] and description["test_accuracy"] == best["test"]["accuracy"]
    assert description["validation_accuracy"] == max(run["validation_accuracy"][-1] for run in runs.values())


def test_the_committed_model_has_the_accuracy_in_its_description(real_folder):
    mnist = input_data.read_data_sets(real_folder, one_hot=True, fallback=False)
    description = describe_model(KEPT_MODEL)
    with open_model(KEPT_MODEL) as model:
        assert count_parameters(model.classifier.graph) == description["parameters"] == 61_706
        # Rounding may decide one image.
        assert evaluate(model, mnist.test) == pytest.approx(description["test_accuracy"], abs=1.5e-4)
        assert evaluate(model, mnist.validation) == pytest.approx(description["validation_accuracy"], abs=3e-4)
    assert description["data"] == "MNIST" and {"command", "seed", "tensorflow", "python"} <= set(description)


# Printed digits


def test_printed_digits_survive_the_reader(saved):
    font = ImageFont.load_default(size=120)
    for digit in range(10):
        picture = Image.new("L", (160, 200), 255)
        ImageDraw.Draw(picture).text((40, 30), str(digit), fill=0, font=font)
        assert 20 < (read_digit(saved(picture)) > 0.5).sum() < 300


def test_a_broken_extra_does_not_stop_the_command_line(monkeypatch, capsys):
    broken = EntryPoint("broken", "lenet_lab.no_such_extra:command", "lenet_lab.commands")
    monkeypatch.setattr("lenet_lab.__main__.entry_points", lambda group: [broken])
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    shown = capsys.readouterr()
    assert exit_.value.code == 0 and "notebooks" in shown.out
    assert "The command broken is not available: No module named 'lenet_lab.no_such_extra'" in shown.err
