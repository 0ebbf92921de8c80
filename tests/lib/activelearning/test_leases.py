import pytest

from lib.activelearning import STRATEGIES, Leased, Leases, leases


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return Leased(STRATEGIES[request.param](), Leases())


def asked(strategy, datastore, client):
    return strategy({"client_id": client}, datastore)["id"]


def test_two_annotators_are_given_two_images(strategy, datastore):
    first, second = (asked(strategy, datastore, client) for client in ("one", "two"))
    assert {first, second} == {"a", "b"}


def test_an_image_is_given_twice_rather_than_none(strategy, datastore):
    assert all(asked(strategy, datastore, client) in "ab" for client in ("one", "two", "three"))


def test_who_asks_again_gives_back_what_was_not_wanted(datastore):
    first = Leased(STRATEGIES["first"](), Leases())
    assert [asked(first, datastore, "one") for _ in range(2)] == ["a", "a"], "it is still the first for this client"
    assert asked(first, datastore, "two") == "b"
    datastore.save_label("a", datastore.get_image_uri("a"), "final", {})
    assert asked(first, datastore, "one") == "b", "the only one that is left"


def test_who_went_home_is_not_waited_for_for_ever(datastore, monkeypatch):
    first = Leased(STRATEGIES["first"](), Leases())
    asked(first, datastore, "one")
    assert asked(first, datastore, "two") == "b"
    monkeypatch.setattr(leases, "LEASE", 0.0)
    assert asked(first, datastore, "three") == "a"


def test_when_everything_is_labeled_nobody_is_given_anything(strategy, datastore):
    for image in "ab":
        datastore.save_label(image, datastore.get_image_uri(image), "final", {})
    assert strategy({"client_id": "one"}, datastore) is None


def test_a_strategy_keeps_what_it_says_about_itself():
    uncertainty = STRATEGIES["uncertainty"]()
    leased = Leased(uncertainty, Leases())
    assert leased.info() == uncertainty.info()
    assert leased.scoring == uncertainty.scoring
