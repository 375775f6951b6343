"""The scorer: a row's score has the same bits in every batch; what is no model or no matrix of the right form is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.errors import BundleError
from monitor.model.bundle import Bundle
from monitor.model.scorer import Scorer
from tests import machines


@pytest.fixture(scope="module", name="X")
def readings(machines_bundle: Bundle) -> NDArray[np.float32]:
    return machines_bundle.preprocessor.transform(machines.readings(300, seed=11, anomalies=60)).X


def tflite(bundle: Bundle) -> bytes:
    return (bundle.path / "scorer.tflite").read_bytes()


def test_every_row_scores_the_same_bits_alone_and_in_a_batch(machines_bundle: Bundle, X: NDArray[np.float32]) -> None:
    scorer = machines_bundle.scorer
    whole = scorer.score(X)
    assert whole.dtype == np.float32
    assert whole.shape == (300,)
    assert np.concatenate([scorer.score(X[row : row + 1]) for row in range(300)]).tobytes() == whole.tobytes()


def test_every_batch_size_up_to_300_gives_the_same_bits(machines_bundle: Bundle, X: NDArray[np.float32]) -> None:
    whole = machines_bundle.scorer.score(X)
    for size in range(1, 301):
        assert machines_bundle.scorer.score(X[300 - size :]).tobytes() == whole[300 - size :].tobytes()


def test_the_number_of_threads_changes_no_bit(machines_bundle: Bundle, X: NDArray[np.float32]) -> None:
    with_two = Scorer(tflite(machines_bundle), machines_bundle.preprocessor.n_columns, source="x", num_threads=2)
    assert with_two.score(X).tobytes() == machines_bundle.scorer.score(X).tobytes()


def test_explanations_of_a_row_are_the_same_alone_and_in_a_batch(
    machines_bundle: Bundle, X: NDArray[np.float32]
) -> None:
    whole = machines_bundle.scorer.explain(X)
    assert whole.x_hat.shape == whole.residual.shape == X.shape
    assert (whole.residual >= 0).all()
    for row in range(0, 300, 7):
        alone = machines_bundle.scorer.explain(X[row : row + 1])
        assert alone.x_hat.tobytes() == whole.x_hat[row : row + 1].tobytes()
        assert alone.residual.tobytes() == whole.residual[row : row + 1].tobytes()


def test_results_of_one_call_survive_the_next(machines_bundle: Bundle, X: NDArray[np.float32]) -> None:
    first, explained = machines_bundle.scorer.score(X[:5]), machines_bundle.scorer.explain(X[:5])
    kept = first.copy(), explained.x_hat.copy(), explained.residual.copy()
    machines_bundle.scorer.score(X[5:])
    machines_bundle.scorer.explain(X[5:])
    for now, before in zip((first, explained.x_hat, explained.residual), kept, strict=True):
        assert now.tobytes() == before.tobytes()


def test_broken_machines_score_higher(machines_bundle: Bundle, X: NDArray[np.float32]) -> None:
    raw_score = machines_bundle.scorer.score(X)
    assert np.median(raw_score[240:]) > np.quantile(raw_score[:240], 0.99)


def test_an_empty_batch_has_no_scores_and_no_explanations(machines_bundle: Bundle, X: NDArray[np.float32]) -> None:
    assert machines_bundle.scorer.score(X[:0]).shape == (0,)
    assert machines_bundle.scorer.explain(X[:0]).residual.shape == X[:0].shape


def test_a_matrix_of_any_memory_order_scores_the_same(machines_bundle: Bundle, X: NDArray[np.float32]) -> None:
    expected = machines_bundle.scorer.score(X[::3]).tobytes()
    assert machines_bundle.scorer.score(np.asfortranarray(X[::3])).tobytes() == expected
    assert machines_bundle.scorer.score(X[::3].copy()).tobytes() == expected


def test_a_matrix_of_another_width_dtype_or_rank_is_refused(machines_bundle: Bundle, X: NDArray[np.float32]) -> None:
    wrongs: list[Any] = [X[:, :-1], np.hstack([X, X]), X.astype(np.float64), X[0], X[None]]
    for wrong in wrongs:
        for method in (machines_bundle.scorer.score, machines_bundle.scorer.explain):
            with pytest.raises(ValueError, match=rf"X must be float32 \(n_rows, {X.shape[1]}\), got"):
                method(wrong)


def test_a_model_of_another_width_is_refused(machines_bundle: Bundle) -> None:
    width = machines_bundle.preprocessor.n_columns
    with pytest.raises(
        BundleError, match=rf"m\.tflite: takes rows of another width .*expected {width + 1}, found {width}"
    ):
        Scorer(tflite(machines_bundle), width + 1, source="m.tflite")


@pytest.mark.parametrize("model", [b"", b"\x00", b"not a model at all", b"\x00" * 4096])
def test_bytes_that_are_no_model_are_refused(model: bytes) -> None:
    with pytest.raises(BundleError, match=r"m\.tflite: is not a LiteRT model"):
        Scorer(model, 3, source="m.tflite")
