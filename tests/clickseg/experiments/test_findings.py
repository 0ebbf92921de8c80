from clickseg.experiments.findings import findings

CLICKS = (1, 5, 15)


def grid(**rows):
    return {int(name[1:]): dict(zip(CLICKS, values, strict=True)) for name, values in rows.items()}


def answers(table):
    return [found.holds for found in findings(table)]


def test_the_papers_own_picture_is_yes_four_times():
    assert answers(grid(k1=(0.80, 0.81, 0.80), k5=(0.79, 0.93, 0.95), k15=(0.75, 0.92, 0.96))) == [True] * 4


def test_each_claim_can_be_denied():
    assert answers(grid(k1=(0.80, 0.93, 0.96), k5=(0.79, 0.92, 0.95), k15=(0.75, 0.91, 0.94)))[0] is False
    assert answers(grid(k1=(0.80, 0.90, 0.94), k5=(0.79, 0.92, 0.95), k15=(0.75, 0.92, 0.96)))[1] is False
    assert answers(grid(k1=(0.80, 0.81, 0.80), k5=(0.79, 0.92, 0.95), k15=(0.81, 0.92, 0.96)))[2] is False
    assert answers(grid(k1=(0.80, 0.81, 0.80), k5=(0.79, 0.92, 0.91), k15=(0.75, 0.92, 0.96)))[3] is False


def test_what_the_grid_cannot_say_is_not_answered():
    assert answers(grid(k5=(0.79, 0.92, 0.95))) == [None, None, None, True]
    assert answers(grid(k1=(0.80, 0.81, 0.80))) == [None] * 4


def test_the_figures_of_an_answer_are_shown():
    text = findings(grid(k1=(0.80, 0.81, 0.80), k5=(0.79, 0.93, 0.95)))[0].figures
    assert "0.950 (K = 5, 15 clicks) against 0.800 (K = 1, 15 clicks)" in text
