"""`clickseg pack-bundle`: what is packed, and that it works where there is nothing else of the project."""

import ast
import json
import os
import re
import shutil
import site
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from packaging.utils import canonicalize_name

from clickseg import cli
from clickseg.clicks import Click
from clickseg.methods import load_model, shipped_weights
from clickseg.sessions import SessionCache

NAME = "clickseg_deepgrow_unet2d"


@pytest.fixture
def weights(tmp_path, tiny_weights):
    tiny_weights(tmp_path / "tiny.pt", {"liver": 1})
    return tmp_path / "tiny.pt"


@pytest.fixture
def packed(tmp_path, weights):
    output = tmp_path / "packed.zip"
    assert cli.main(["pack-bundle", NAME, "--weights", str(weights), "--output", str(output)]) == 0
    return output


def names(packed):
    with zipfile.ZipFile(packed) as file:
        assert file.testzip() is None
        return file.namelist()


def alone(folder, *arguments):
    """A process of this Python that knows its packages, and of this project what lies in `folder`, where it runs.

    -S: without the .pth files of site-packages, one of which shows the way to the repository.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": os.pathsep.join([".", *site.getsitepackages()]), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-S", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_packed_bundle_answers_as_the_session_does_where_there_is_nothing_else(
    packed, weights, phantom_study, tmp_path
):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.unpack_archive(packed, folder)
    (bundle,) = folder.iterdir()
    assert bundle.name == NAME
    image = phantom_study / "imagesTr/phantom_000.nii.gz"
    request = {"image": str(image), "foreground": [[24, 24, 12], [20, 30, 8]], "background": [[4, 4, 12]]}
    (bundle / "clicks.json").write_text(json.dumps({"data": [request]}))
    place = (
        "import clickseg, clickseg.methods as m; print('here:', clickseg.__file__, m.shipped_weights('unet2d', '.'))"
    )
    run = "import runpy; runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"  # as -m does
    command = ["-c", f"{place}; {run}", "run", "inference", "--config_file", "configs/inference.json"]
    said = alone(bundle, *command, "--dataset#data", "%clicks.json::data", "--output_dir", "masks", "--device", "cpu")
    assert re.findall(r"^here: (\S+) (\S+)$", said, re.MULTILINE) == [
        (str(bundle / "clickseg/__init__.py"), "models/model.pt")
    ]
    answer = nib.load(bundle / "masks/phantom_000_foreground.nii.gz")
    clicks = [Click((24, 24, 12), 1), Click((20, 30, 8), 1), Click((4, 4, 12), 0)]
    session = SessionCache().open(image, weights)
    np.testing.assert_array_equal(np.asarray(answer.dataobj), session.predict(clicks))
    assert np.asarray(answer.dataobj).any()
    np.testing.assert_allclose(answer.affine, session.grid.affine)


def test_what_is_packed_is_the_bundle_and_the_whole_library_and_no_more(packed, weights, repository, tmp_path):
    library = repository / "apps/clickseg/clickseg"
    found = {name.removeprefix(f"{NAME}/") for name in names(packed)}
    tracked = {path.relative_to(library.parent).as_posix() for path in library.rglob("*.py")}
    data = {"clickseg/methods/recipes/unet2d/practical.json", "clickseg/page/index.html", "clickseg/py.typed"}
    bundle = {"LICENSE", "models/model.pt", "docs/README.md", "docs/data_license.txt", "configs/logging.conf"}
    bundle |= {f"configs/{path.name}" for path in (repository / "bundles" / NAME / "configs").glob("*.json")}
    assert tracked | data | bundle <= found
    rest = {name for name in found - tracked - data - bundle if not name.startswith("clickseg/")}
    assert rest == set()
    assert not [name for name in found if re.search(r"__pycache__|(^|/)(test_|tests/|\.)", name)]
    with zipfile.ZipFile(packed) as file:
        assert file.read(f"{NAME}/models/model.pt") == weights.read_bytes()


def imported_packages(path):
    """The packages that a module imports as soon as it is imported."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_the_metadata_names_every_package_that_the_configs_need(repository, starter, tmp_path):
    """Whoever gets a packed bundle has nothing else to go by."""
    library = repository / "apps/clickseg/clickseg"
    script = "import sys, clickseg.bundle, clickseg.clicks, clickseg.datasets, clickseg.evaluation, clickseg.training;"
    script += "print(*(getattr(m, '__file__', '') for n, m in sys.modules.items() if n.split('.')[0] == 'clickseg'))"
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(library.parent)}
    said = starter.run([tmp_path / "script.py"], environment, tmp_path, tmp_path / "out", tmp_path / "errors")
    loaded = [Path(file) for file in said.split()]
    assert library / "images.py" in loaded
    needed = {package for path in loaded for package in imported_packages(path)} - {*sys.stdlib_module_names}
    metadata = json.loads((repository / "bundles" / NAME / "configs/metadata.json").read_text())
    named = {canonicalize_name(name) for name in metadata["required_packages_version"]} | {"monai", "torch", "numpy"}
    providers = packages_distributions()
    assert [one for one in needed if not named & {canonicalize_name(name) for name in providers[one]}] == []


def test_caches_and_what_a_bundle_has_written_are_not_packed(repository, weights, tmp_path):
    bundle = shutil.copytree(repository / "bundles" / NAME, tmp_path / "mine")
    for name in ("runs/log.csv", "configs/__pycache__/a.pyc", "docs/.README.md.swp", "docs/note.pyc"):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text("left over")
    command = ["pack-bundle", str(bundle), "--weights", str(weights), "--output"]
    assert cli.main([*command, str(tmp_path / "mine.zip")]) == 0
    assert not {"log.csv", "a.pyc", ".README.md.swp", "note.pyc"} & {
        name.split("/")[-1] for name in names(tmp_path / "mine.zip")
    }


def test_the_same_bundle_gives_the_same_bytes_whenever_it_is_packed(packed, weights, repository, tmp_path):
    copy = shutil.copytree(repository / "bundles" / NAME, tmp_path / NAME, copy_function=shutil.copyfile)
    (copy / "LICENSE").chmod(0o600)
    again = tmp_path / "again.zip"
    assert cli.main(["pack-bundle", str(copy), "--weights", str(weights), "--output", str(again)]) == 0
    assert again.read_bytes() == packed.read_bytes()
    assert names(packed) == sorted(names(packed))


@pytest.mark.parametrize("named", [None, "unet2d", "unet2d_general"])
def test_without_a_file_the_shipped_weights_are_packed(tmp_path, named):
    given = ["--weights", named] if named else []
    assert cli.main(["pack-bundle", *given, "--output", str(tmp_path / "packed.zip")]) == 0
    shipped = shipped_weights(named or "unet2d")
    with zipfile.ZipFile(tmp_path / "packed.zip") as file:
        assert file.read(f"{NAME}/models/model.pt") == shipped.read_bytes()


def test_a_bundle_that_has_weights_keeps_them(repository, weights, tmp_path):
    bundle = shutil.copytree(repository / "bundles" / NAME, tmp_path / NAME)
    (bundle / "models").mkdir()
    shutil.copy(weights, bundle / "models/model.pt")
    assert cli.main(["pack-bundle", str(bundle), "--output", str(tmp_path / "packed.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "packed.zip") as file:
        (tmp_path / "unpacked.pt").write_bytes(file.read(f"{NAME}/models/model.pt"))
    assert load_model(tmp_path / "unpacked.pt").recipe.labels == {"liver": 1}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nobody"], f"nobody: name one of the project ({NAME}), or a folder with configs/inference.json"),
        (["empty"], "empty: name one of the project"),
        (["broken"], "broken/configs/inference.json does not say weights#model: it is no bundle of clickseg"),
        (["--weights", "tis_hippocampus"], f"holds tis weights, and {NAME} is for unet2d"),
        (["--weights", "text.pt"], "text.pt is not a clickseg weights file"),
        (["--weights", "missing.pt"], "no weights file at missing.pt"),
        (["--output", "packed.tar"], "--output must end in .zip, got packed.tar"),
        (["--output", "there.zip"], "there.zip is there already: name another output, or remove it"),
    ],
)
def test_bad_input_is_refused_in_words_and_nothing_is_written(tmp_path, monkeypatch, capsys, given, said):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "broken/configs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "broken/configs/inference.json").write_text("[]")
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "there.zip").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["pack-bundle", "--output", "new.zip", *given]) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.zip").read_text() == "precious"
