"""Fixtures that all tests share, and the reasons for which tests are skipped."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from warm import Starter

# The first example of a property test may build a phantom or warm up torch: no deadline per example.
# With CI set, the same commit draws the same examples.
settings.register_profile(
    "house", deadline=None, derandomize=bool(os.environ.get("CI")), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")

# Tensors in tests are tiny: more threads would only wait for each other, and sums would depend on the machine.
torch.set_num_threads(1)

MISSING = {
    "gpu": lambda: None if torch.cuda.is_available() else "no CUDA device here",
    "orthanc": lambda: None if _program("Orthanc") else "Orthanc is not installed",
    "chromium": lambda: None if _program("chromium", "google-chrome") else "Chromium is not installed",
}


# The files that take ten seconds and more, the longest first.
LONGEST = [
    "e2e/test_page.py",
    "e2e/test_ohif.py",
    "clickseg/test_training.py",
    "clickseg/devices/test_devices.py",
    "e2e/test_server.py",
    "e2e/test_slicer.py",
    "e2e/test_archived_labels.py",
    "test_docs.py",
    "clickseg/test_volumes.py",
    "e2e/test_page_brush.py",
    "e2e/test_page_adding.py",
    "e2e/test_shipped.py",
    "e2e/test_page_dicom.py",
    "e2e/test_demo.py",
    "lib/trainers/test_click.py",
    "bundles/test_pack.py",
    "bundles/test_unet2d_bundle.py",
    "clickseg/test_cohort.py",
    "clickseg/test_rivals.py",
    "clickseg/test_machine.py",
    "clickseg/sessions/test_volume.py",
    "contract/test_methods.py",
]


def _program(*names: str) -> str | None:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def pytest_collection_modifyitems(items):
    """The files that take longest come first: begun last, one of them would keep all processes but its own waiting."""
    folder = Path(__file__).parent
    rank = {folder / name: number for number, name in enumerate(LONGEST)}
    assert all(path.exists() for path in rank), "a file of LONGEST has another name now"
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_runtest_setup(item):
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            pytest.skip(reason)


@pytest.fixture(scope="session")
def starter():
    """starter.start(arguments, environment, folder, output): a Python process that need not import torch and MONAI."""
    starter = Starter()
    yield starter
    starter.close()


@pytest.fixture(scope="session")
def repository():
    """The root of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def single_precision(monkeypatch):
    """Some processors compute in bfloat16: what is compared closely is to be the same on all."""
    monkeypatch.setattr("clickseg.machine.cpu_multiplies_bfloat16", lambda: False)


@pytest.fixture(scope="session")
def data_dir():
    """The folder with the data sets (btcv/, dicom/, ...), named by CLICKSEG_DATA."""
    folder = os.environ.get("CLICKSEG_DATA")
    if not folder:
        pytest.skip("CLICKSEG_DATA is not set (the folder with the data sets)")
    if not Path(folder).is_dir():
        pytest.skip(f"CLICKSEG_DATA is {folder}, which is no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def phantom_study(tmp_path_factory):
    """A folder with imagesTr/, labelsTr/ and dataset.json: two phantoms, 48 x 48 x 24 voxels. Copy it to change it."""
    from clickseg.phantom import write_phantoms

    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, cases=2, seed=0, shape=(48, 48, 24))
    return folder


@pytest.fixture(scope="session")
def tiny_weights():
    """tiny_weights(path, labels, seed=2, sure=1, **fields): weights of a network that answers at once.

    sure: by how much its logits are larger than those of random weights.
    """
    from clickseg.clicks import Click, stack_clicks
    from clickseg.methods import METHODS, UNet2dRecipe, save_weights

    made = {}

    def write(path, labels, seed=2, sure=1.0, **fields):
        path.parent.mkdir(parents=True, exist_ok=True)
        key = (*labels.items(), seed, sure, *fields.items())
        if key not in made:
            make(path, labels, seed, sure, fields)
            made[key] = path.read_bytes()
        path.write_bytes(made[key])

    def make(path, labels, seed, sure, fields):
        small = {"width": 2, "size": 32, "batch": 2, "steps_per_epoch": 2, "spacing": 2.5} | fields
        recipe = UNet2dRecipe(labels=labels, mean=50.0, deviation=80.0, augment=False, **small)
        torch.manual_seed(seed)
        segmenter = METHODS["unet2d"].build(recipe)
        image, clicks = 50 + 80 * torch.randn(4, 1, 32, 32), stack_clicks([[Click((16, 16), 1)]] * 4, 2)
        with torch.no_grad():
            for _ in range(20):  # gives batch normalisation its statistics
                segmenter(image, clicks)
            logits = segmenter.eval()(image, clicks)
            segmenter.network.head.bias[1] -= (logits[:, 1] - logits[:, 0]).median()
            for parameter in segmenter.network.head.parameters():
                parameter *= sure
        save_weights(path, segmenter, recipe)

    return write


@pytest.fixture(scope="session")
def tiny_tis_weights():
    """tiny_tis_weights(path, recipe): weights of `tis` that find every class somewhere."""
    from clickseg.methods import METHODS, save_weights

    def write(path, recipe):
        torch.manual_seed(0)
        network = METHODS["tis"].build(recipe)
        with torch.no_grad():
            logits = network.automatic(network.encode(torch.randn(1, 1, 16, 16, 8)))
            network.encoder.head.bias -= logits.mean((0, 2, 3, 4))
        save_weights(path, network, recipe)

    return write
