"""What is trained on the same data to be compared with: the U-Net without clicks, and MONAI's DeepGrow."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.networks.nets import BasicUNet

from clickseg.clicks import Click, stack_clicks
from clickseg.evaluation import Protocol, evaluate
from clickseg.evaluation.tasks import default_user
from clickseg.methods import METHODS, RIVALS, UNet2dRecipe, find_method, load_model
from clickseg.methods.automatic import Automatic2d, AutomaticRecipe
from clickseg.methods.deepedit import CLICKING, Deepedit3d, DeepeditRecipe, Step
from clickseg.methods.deepgrow import Deepgrow2d, DeepgrowRecipe
from clickseg.methods.weights import SHIPPED
from clickseg.phantom import LABELS
from clickseg.training import Plan, build_trainer
from clickseg.transforms import CropAroundLabeld, PickSliced

SMALL = {"labels": LABELS, "width": 4, "size": 32, "spacing": 16.0, "batch": 4, "steps_per_epoch": 4}
RECIPES = {
    "automatic": AutomaticRecipe(learning_rate=1e-2, warmup=0, decay=0.0, **SMALL),
    "deepgrow": DeepgrowRecipe(learning_rate=1e-2, **SMALL | {"max_clicks": 2}),
    "deepedit": DeepeditRecipe(
        labels=LABELS, spacing=16.0, patch=(16, 16, 8), width=4, learning_rate=1e-2, steps_per_epoch=4
    ),
}


def train(cases, output, recipe, epochs=2, stopped=False, **options):
    """The losses; if it is `stopped`, those of the first epoch."""
    losses = []
    plan = Plan(output, epochs=epochs, progress=False, **options)
    trainer = build_trainer(recipe.method, recipe, cases, plan)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"]))
    if stopped:
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
    trainer.run()
    return losses


def test_every_rival_is_found_by_its_name_and_never_served():
    assert set(RECIPES) == set(RIVALS)
    for name in RIVALS:
        assert find_method(name).recipe.method == name
        assert name not in METHODS


@pytest.mark.parametrize("recipe", sorted(SHIPPED.glob("unet2d*.recipe.json")), ids=lambda path: path.name)
def test_a_recipe_of_whatever_stage_has_one_of_the_network_without_clicks_beside_it(recipe):
    ours = UNet2dRecipe.find(recipe)
    theirs = AutomaticRecipe.beside(ours)
    assert (theirs.interactions, theirs.spacing, theirs.width) == (0, ours.spacing, ours.width)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_learns_and_its_weights_play_the_same_game(study, cases, tmp_path, monkeypatch, name):
    # MONAI's transforms, which the rivals call, do not work in bfloat16, as some processors would have it.
    monkeypatch.setattr("clickseg.machine.cpu_multiplies_bfloat16", lambda: True)
    losses = train(cases, tmp_path / "run", RECIPES[name], epochs=6)
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    weights = tmp_path / "run" / "weights.pt"
    assert load_model(weights).recipe == RECIPES[name]
    user = default_user(RECIPES[name].dimension)
    protocol = Protocol(clicks=(0, 1, 3), user=user, limit=1, labels=("liver", "spleen"))
    report = evaluate(name, weights, study, tmp_path / "report", protocol).report
    if RECIPES[name].dimension == 2:
        assert report["mean"]["0"]["dice"] == 0, "nobody has said yet which structure is meant"
    assert all(math.isfinite(report["mean"][clicks]["dice"]) for clicks in ("1", "3"))


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_that_was_interrupted_ends_with_the_same_weights(cases, tmp_path, name):
    train(cases, tmp_path / "whole", RECIPES[name])
    train(cases, tmp_path / "halves", RECIPES[name], stopped=True)
    train(cases, tmp_path / "halves", RECIPES[name], resume=True)
    whole, halves = (torch.load(tmp_path / run / "weights.pt")["state"] for run in ("whole", "halves"))
    for key, tensor in whole.items():
        assert torch.equal(tensor, halves[key]), key


def test_weights_of_a_rival_are_not_taken_for_those_of_another_method(study, cases, tmp_path):
    train(cases, tmp_path / "run", RECIPES["automatic"], epochs=1)
    with pytest.raises(ValueError, match="holds automatic weights, not deepgrow"):
        evaluate("deepgrow", tmp_path / "run/weights.pt", study, tmp_path / "report", Protocol())


# The automatic one


@pytest.fixture
def automatic():
    torch.manual_seed(0)
    recipe = dataclasses.replace(RECIPES["automatic"], labels={"spleen": 1, "liver": 6})
    return Automatic2d(recipe).eval()


def of_classes(*maps):
    """Probabilities (1, C + 1, 2, 2) with the organs' given, the background's the rest."""
    organs = torch.tensor(maps)
    return torch.cat([1 - organs.sum(0, keepdim=True), organs])[None]


def test_a_click_chooses_the_organ_that_is_most_probable_under_it(automatic):
    code = of_classes([[0.7, 0.2], [0.1, 0.0]], [[0.1, 0.3], [0.4, 0.9]])
    for position, organ in (((0, 0), 1), ((1, 1), 2)):
        inside = automatic.decode(code, stack_clicks([[Click(position, 1)]], 2)).softmax(1)[0, 1]
        torch.testing.assert_close(inside, code[0, organ], atol=1e-5, rtol=1e-5)


def test_clicks_outside_and_no_clicks_choose_nothing(automatic):
    code = of_classes([[0.7, 0.2], [0.1, 0.0]], [[0.1, 0.3], [0.4, 0.9]])
    for clicks in ([[]], [[Click((0, 0), 0)]]):
        assert (automatic.decode(code, stack_clicks(clicks, 2)).argmax(1) == 0).all()


def test_the_code_is_the_probability_of_every_class(automatic):
    with torch.no_grad():
        code = automatic.encode(torch.randn(2, 1, 19, 33) * 100)
    assert code.shape == (2, 3, 19, 33)
    torch.testing.assert_close(code.sum(1), torch.ones(2, 19, 33))


def test_an_automatic_segmentation_needs_to_know_its_organs():
    with pytest.raises(ValueError, match="labels"):
        Automatic2d(AutomaticRecipe())


def test_a_sample_of_all_classes_numbers_them_and_is_cropped_round_the_structure():
    label = np.zeros((1, 20, 20), np.uint8)
    label[0, :4, :4], label[0, 15:, 15:], label[0, 10, 10] = 6, 1, 9
    data = {"image": np.zeros((1, 20, 20), np.int16), "label": label, "slice": 0, "value": 6, "seed": 0}
    sample = PickSliced(classes=(1, 6))(data)
    assert sample["class"] == 2
    assert sample["label"].unique().tolist() == [0, 1, 2]
    assert (sample["label"][0] == 2).sum() == 16
    for seed in range(10):
        cropped = CropAroundLabeld(8).set_random_state(seed)(sample)
        assert (cropped["label"] == 2).any()


# DeepGrow


@pytest.fixture
def deepgrow():
    torch.manual_seed(0)
    return Deepgrow2d(dataclasses.replace(RECIPES["deepgrow"], size=64)).eval()


def test_what_lies_beyond_the_crop_round_the_clicks_is_background(deepgrow):
    image = torch.randn(1, 1, 200, 200) * 100
    with torch.no_grad():
        logits = deepgrow(torch.cat([image] * 3, 1))
        answer = deepgrow.decode(deepgrow.encode(image), stack_clicks([[Click((100, 90), 1)]], 2))
    assert logits.shape == (1, 1, 200, 200)
    seen = (answer[0, 1] > -1000).nonzero()
    assert seen.min(0).values.tolist() == [68, 58]
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [64, 64]


def test_clicks_farther_apart_than_the_crop_are_all_seen(deepgrow):
    clicks = stack_clicks([[Click((30, 30), 1), Click((150, 160), 0)]], 2)
    with torch.no_grad():
        answer = deepgrow.decode(torch.randn(1, 1, 200, 200), clicks)
    seen = (answer[0, 1] > -1000).nonzero()
    assert seen.min(0).values.tolist() == [10, 10]  # a margin of 20 pixels, as MONAI has it
    assert seen.max(0).values.tolist() == [170, 180]


def test_without_a_click_inside_everything_is_background(deepgrow):
    for clicks in ([[]], [[Click((5, 5), 0)]]):
        assert (deepgrow.decode(torch.randn(1, 1, 70, 70), stack_clicks(clicks, 2)).argmax(1) == 0).all()


def test_deepgrow_has_the_settings_of_monai_labels_app():
    """sample-apps/radiology, lib/configs/deepgrow_2d.py and lib/trainers/deepgrow.py of MONAI Label 0.8.5."""
    recipe = DeepgrowRecipe()
    assert (recipe.spacing, recipe.size, recipe.batch, recipe.max_clicks) == (1.0, 256, 16, 10)
    assert (recipe.mean, recipe.deviation, recipe.learning_rate) == (208.0, 388.0, 1e-4)
    assert DeepgrowRecipe.beside(METHODS["unet2d"].recipe()).learning_rate == 1e-3, "in experiments, which are short"
    theirs = BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=(32, 64, 128, 256, 512, 32))
    shapes = [
        {name: value.shape for name, value in n.state_dict().items()} for n in (Deepgrow2d(recipe).network, theirs)
    ]
    assert shapes[0] == shapes[1]


# DeepEdit


@pytest.fixture
def deepedit():
    torch.manual_seed(0)
    return Deepedit3d(RECIPES["deepedit"]).eval()


@pytest.mark.parametrize("shape", [(16, 16, 8), (11, 20, 9)])
def test_clicks_of_each_class_have_a_channel_of_their_own(deepedit, shape, monkeypatch):
    seen = []
    monkeypatch.setattr(deepedit.network, "forward", lambda x: seen.append(x.clone()) or x[:, : len(LABELS) + 1])
    code = deepedit.encode(torch.randn(1, 1, *shape))
    answer = deepedit.decode(code, stack_clicks([[Click((3, 4, 5), 2), Click((8, 8, 2), 0)]], 3))
    assert answer.shape == (1, len(LABELS) + 1, *shape)
    drawn = torch.stack([x[0] for x in seen]).amax((0, 2, 3, 4))[1:]
    assert drawn.tolist() == [1.0, 0.0, 1.0, *[0.0] * (len(LABELS) - 2)]


def test_half_of_the_steps_correct_and_the_others_see_no_clicks(cases, tmp_path, monkeypatch):
    clicks = []
    original = Deepedit3d.forward

    def watched(self, image, *more):
        if self.training:
            clicks.append(float(image[:, 1:].abs().sum()))
        return original(self, image, *more)

    monkeypatch.setattr(Deepedit3d, "forward", watched)
    recipe = dataclasses.replace(RECIPES["deepedit"], batch=1)
    train(cases, tmp_path / "run", recipe, epochs=5)
    assert CLICKING == 0.5
    assert 4 <= sum(count > 0 for count in clicks) <= 16


def test_a_step_of_deepedit_follows_from_the_seeds_of_its_samples():
    recipe = RECIPES["deepedit"]
    label = torch.zeros(1, 1, 16, 16, 8)
    label[..., 4:9, 4:9, 2:6] = 1
    batch = {"image": torch.randn(1, 1, 16, 16, 8), "label": label, "seed": torch.tensor([5])}
    given = []

    class Engine:
        def fire_event(self, event):
            pass

    step = Step(recipe)
    step.loop = lambda engine, data: given.append(data["image"]) or {"loss": torch.zeros(1)}
    for _ in range(2):
        step(Engine(), batch)
    assert torch.equal(given[0], given[1])
    assert given[0].shape == (1, 2 + len(LABELS), 16, 16, 8)
    assert given[0][:, 1:].amax() == 1
