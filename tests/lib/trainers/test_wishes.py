import pytest
import torch

from lib.trainers.wishes import Wishes

WRONG = {
    "max_epochs must be a whole number from 1": [
        ("max_epochs", value) for value in ("many", 0, -1, 2.5, True, [3], {}, 1e999)
    ],
    "max_epochs must be a whole number from 1, not NaN": [("max_epochs", float("nan"))],
    "val_split must be a share of the images, from 0 to below 1": [
        ("val_split", value) for value in (7, 1.0, -0.1, "x", [])
    ],
    "name must be a plain name such as train_01": [
        ("name", value)
        for value in ("../x", "..", ".", "", "a/b", "/tmp", ".scratch", "a\0b", "\ud800", "ä" * 128, 5, ["x"])
    ],
    "resume must be true or false": [("resume", value) for value in ("perhaps", 2, [], {})],
    'pretrained must be true or false, not ""': [("pretrained", "")],
    "multi_gpu must be true or false": [("multi_gpu", "0,1")],
    "unknown device 'nonsense'; use auto, cpu, cuda or cuda:N": [("device", "nonsense")],
    "device must be a name such as cpu or cuda": [("device", {"a": 1}), ("device", 7), ("device", [7])],
    'gpus must be "all" or numbers such as "0,1"': [("gpus", value) for value in ([0, 1], 1, "first", "0,", {"0": 1})],
    "a training has no foo, max_epoch; it has name, max_epochs, device, ": [("max_epoch", 1)],
}


@pytest.mark.parametrize(
    ("sentence", "key", "value"), [(text, *wish) for text, wishes in WRONG.items() for wish in wishes]
)
def test_what_does_not_work_is_refused_with_what_would(sentence, key, value):
    with pytest.raises(ValueError, match=r".") as refused:
        Wishes.read({key: value, **({"foo": 2} if key == "max_epoch" else {})})
    assert str(refused.value).startswith(sentence)


def test_what_clients_send_is_read(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    everything = {
        "name": "Läufe 2",
        "max_epochs": "20",  # a field of text
        "device": ["cpu", "cuda"],  # as /info lists them
        "pretrained": "false",
        "val_split": 0,
        "multi_gpu": False,
        "gpus": "0,2",
        "resume": "yes",
    }
    assert Wishes.read(everything) == Wishes("Läufe 2", 20, "cpu", False, 0.0, False, "0,2", True)
    added = {"model": "unet2d", "client_id": None, "local_rank": 0}
    assert Wishes.read(added) == Wishes.read(dict.fromkeys(everything)) == Wishes()


def test_what_is_offered_is_what_is_read():
    offered = Wishes.offered()
    assert (offered["max_epochs"], offered["gpus"]) == (50, "all")
    assert Wishes.read(offered) == Wishes()
