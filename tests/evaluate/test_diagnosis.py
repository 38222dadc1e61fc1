"""A training is put in words that are true, with what to try."""

from __future__ import annotations

from modelmill.evaluate.diagnosis import diagnose, restarts
from modelmill.trial import Point


def curve(*losses: float) -> list[Point]:
    return [Point(i + 1, {"valid_loss": loss}) for i, loss in enumerate(losses)]


def test_a_wide_gap_is_called_overfitting() -> None:
    assert diagnose([], {"accuracy": 1.0}, {"accuracy": 0.8})[0].startswith("It overfits: accuracy 1 on the rows")
    assert diagnose([], {"rmse": 1.0}, {"rmse": 2.0})[0].startswith("It overfits: RMSE 1 on the rows")


def test_a_low_figure_on_both_is_called_underfitting() -> None:
    assert diagnose([], {"accuracy": 0.5}, {"accuracy": 0.5})[0].startswith("It underfits")


def test_a_poor_fit_underfits_even_if_new_rows_are_poorer_still() -> None:
    said = diagnose([], {"r2": 0.28}, {"r2": 0.13}, "tree")[0]
    assert said.startswith("It underfits: R2 0.28 on the rows it learned from, 0.13 on rows it did not. Try a deeper")
    assert "more data would help too" in said
    assert diagnose([], {"accuracy": 0.65}, {"accuracy": 0.5})[0].startswith("It overfits")


def test_an_error_is_judged_by_what_else_is_known_of_it() -> None:
    both = {"rmse": 60.0, "r2": 0.2}, {"rmse": 62.0, "r2": 0.15}
    assert diagnose([], *both)[0].startswith("It underfits: R2 0.2")
    assert diagnose([], {"rmse": 21.0, "r2": 0.9}, {"rmse": 60.0, "r2": 0.4})[0].startswith("It overfits: RMSE 21")


def test_what_to_try_fits_the_family() -> None:
    tree, net = (diagnose([], {"accuracy": 1.0}, {"accuracy": 0.7}, body)[0] for body in ("forest", "mlp"))
    assert "shallower trees" in tree
    assert "dropout" in net


def test_close_figures_generalize() -> None:
    assert diagnose([], {"accuracy": 0.99}, {"accuracy": 0.98})[0].startswith("It generalizes")


def test_a_loss_that_rises_again_is_said_with_its_best_epoch() -> None:
    said = diagnose(curve(1.0, 0.5, 0.6, 0.7, 0.8), {}, {})
    assert said == ["Validation loss was lowest at epoch 2 of 5 and rose by 60 % after it."]


def test_a_loss_that_still_falls_wants_more_epochs() -> None:
    assert "more epochs may help" in diagnose(curve(1.0, 0.8, 0.6, 0.4, 0.2), {}, {})[0]


def test_two_epochs_in_which_the_loss_fell_were_too_few() -> None:
    assert "more epochs may help" in diagnose(curve(2.0, 1.5), {}, {})[0]
    assert diagnose(curve(2.0), {}, {}) == ["Nothing in the training stands out."]


def test_a_loss_that_is_lowest_at_the_end_but_hardly_fell_levelled_out() -> None:
    assert diagnose(curve(1.0, 0.5, 0.5, 0.5, 0.499), {}, {}) == [
        "Validation loss levelled out by the last of 5 epochs."
    ]


def test_epochs_of_compression_are_not_taken_for_training() -> None:
    training = curve(1.0, 0.5, 0.3, 0.21, 0.2)
    assert restarts([*training, *curve(0.9, 0.4)]) == [6]
    assert diagnose([*training, *curve(0.9, 0.4)], {}, {}) == diagnose(training, {}, {})


def test_a_training_without_anything_to_say_says_so() -> None:
    assert diagnose([], {}, {}) == ["Nothing in the training stands out."]
