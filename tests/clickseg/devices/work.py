"""What clickseg does with a device, from its commands on: `python work.py cpu|pretended DATA FOLDER`.

DATA: a folder with a phantom. FOLDER/answers.json says what came of it.
"""

import contextlib
import itertools
import json
import sys
from pathlib import Path

import nibabel as nib
import torch
from pretended import DEVICE, pretending

from clickseg import active, cli, machine
from clickseg.images import read_volume
from clickseg.methods import load_model
from clickseg.phantom import LABELS

UNET2D = {"labels": LABELS, "width": 4, "size": 32, "spacing": 16.0, "batch": 4, "steps_per_epoch": 3, "max_clicks": 3}
TIS = {
    "labels": LABELS, "spacing": 16.0, "patch": [16, 16, 8], "width": 4, "tokens": 8, "heads": 2, "layers": 2,
    "steps_per_epoch": 2, "copies": 2, "max_clicks": 3,
}  # fmt: skip
REFINER = {
    "stage": "refiner", "users": ["liu", "liu_faces", "deterministic"], "hard_copies": 1, "crop": [8, 8, 8],
    "sampled_tokens": 50, "horizon": 12, "dice": 1.0,
}  # fmt: skip
USERS = ["sakinis", "liu", "jittered"]


def work(data, folder):
    numbers = itertools.count()

    def run(*command):
        assert cli.main(list(map(str, command))) == 0, command

    def train(method, output, recipe, *more):
        (folder / f"{output}.json").write_text(json.dumps(recipe))
        given = ["--method", method, "--data", data, "--recipe", folder / f"{output}.json", "--output", folder / output]
        run("train", *given, *more, "--workers", 0)
        return folder / output / "weights.pt"

    def evaluate(method, weights, user, *more):
        output = folder / f"evaluation{next(numbers)}"
        given = ["--weights", weights] if weights else []
        run("evaluate", "--method", method, *given, "--data", data, "--user", user, *more, "--output", output)
        return json.loads((output / "report.json").read_text())["mean"]

    def predict(*given):
        run("predict", data / "imagesTr/phantom_000.nii.gz", *given, "--output", folder / "mask.nii.gz")
        return int((nib.load(folder / "mask.nii.gz").get_fdata() > 0).sum())

    def scored(weights):
        model = load_model(weights, machine.pick_device())
        volume, grid = read_volume(data / "imagesTr/phantom_000.nii.gz")
        score = active.volume_entropy if model.segmenter.dimension == 3 else active.click_entropies
        wanted = [] if model.segmenter.dimension == 3 else [3]
        return str(score(model.segmenter, model.recipe.spacing, volume, grid, *wanted))

    further = {
        "feedback": True,
        "overlap": "max",
        "click_weight": 0.5,
        "superpixels": 0.5,
        "click_margin": 1.0,
        "named": 0.5,
    }
    train("unet2d", "plain", UNET2D, "--epochs", 1)
    plain = train("unet2d", "plain", UNET2D, "--epochs", 2, "--resume")
    unet2d = train("unet2d", "further", UNET2D | further, "--epochs", 2, "--init", plain)
    automatic = train("automatic", "automatic", UNET2D, "--epochs", 1)
    encoder = train("tis", "encoder", TIS, "--stage", "encoder", "--epochs", 2)
    tis = train("tis", "refiner", TIS | REFINER, "--stage", "refiner", "--epochs", 2, "--init", encoder)
    few, in_3d = ["--clicks", "0,1,3", "--limit", "1"], ["--clicks", "0,2"]
    answers = {f"unet2d by {user}": evaluate("unet2d", unet2d, user, *few) for user in USERS}
    answers["automatic"] = evaluate("automatic", automatic, "sakinis", *few)
    answers["random walker"] = evaluate(
        "random_walker", None, "sakinis", "--clicks", "1,2", "--limit", "1", "--labels", "liver"
    )
    answers["tis"] = evaluate("tis", tis, "liu", *in_3d)
    answers["tis_rule"] = evaluate("tis_rule", tis, "liu", *in_3d)
    answers["tis_ball"] = evaluate("tis_ball", tis, "deterministic", *in_3d, "--separately", "--labels", "liver")
    clicks = ["--click", "24,24,12:1", "--click", "20,24,12:0"]
    answers["a mask"] = predict("--weights", unet2d, *clicks)
    answers["a mask in all slices"] = predict("--weights", unet2d, "--propagate", *clicks)
    answers["a mask in 3D"] = predict("--weights", tis, "--click", "24,24,12:liver", "--click", "20,24,12:spleen")
    answers["what to label next"] = [scored(unet2d), scored(tis)]
    return answers


def main(device, data, folder):
    torch.set_num_threads(1)
    machine.cpu_multiplies_bfloat16 = lambda: False
    if device == "pretended":
        machine.pick_device = lambda name="auto": DEVICE
    with pretending() if device == "pretended" else contextlib.nullcontext():
        answers = work(data, folder)
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
