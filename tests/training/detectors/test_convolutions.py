"""The convolutional networks: shapes for any size of image, formulas against numpy, what is shared and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from monitor.errors import ConfigError
from tests.training.detectors.material import break_rows
from training.detectors.alocc import ALOCC, ALOCCOptions
from training.detectors.autoencoder import Autoencoder, AutoencoderOptions
from training.detectors.backbones import choose_backbone
from training.detectors.convolutions import ConvolutionalBackbone
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.networks import SpectralNormalisation, kernels_of

pytestmark = pytest.mark.training

SHAPES = [(8, 8, 1), (28, 28, 1), (10, 7, 3), (1, 1, 1), (3, 40, 2)]


def make_backbone(shape: tuple[int, int, int], **options: object) -> ConvolutionalBackbone:
    return ConvolutionalBackbone(shape, EfficientGANOptions(image_shape=shape, **options))


def make_images(n: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Noise, float32 (n, values)."""
    return np.random.default_rng(0).standard_normal((n, int(np.prod(shape))), dtype=np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_networks_take_and_give_flat_rows_of_images_of_any_size(shape: tuple[int, int, int]) -> None:
    backbone, rng, x = make_backbone(shape), np.random.default_rng(0), tf.constant(make_images(5, shape))
    z = backbone.encoder(4, rng)(x)
    assert z.shape == (5, 4)
    assert backbone.generator(4, rng)(z).shape == x.shape
    for logit, features in (backbone.discriminator(rng)(x), backbone.joint_discriminator(4, rng)([x, z])):
        assert (logit.shape, features.shape) == ((5, 1), (5, 128))


@pytest.mark.parametrize("channels", [(8,), (4, 8, 16)])
def test_more_convolutions_reproduce_the_same_size(channels: tuple[int, ...]) -> None:
    backbone, rng = make_backbone((10, 7, 3), channels=channels), np.random.default_rng(0)
    assert backbone.generator(4, rng)(np.zeros((2, 4), np.float32)).shape == (2, 210)
    kernels = kernels_of(backbone.encoder(4, rng))
    assert [kernel.shape[-1] for kernel in kernels] == [*channels, 4]


def test_a_row_is_folded_by_rows_of_the_image_then_columns_then_channels() -> None:
    backbone = make_backbone((2, 2, 1), channels=(1,))
    encoder = backbone.encoder(1, np.random.default_rng(0))
    convolution, _, dense, bias = (weight.numpy() for weight in encoder.trainable_weights)
    row = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    # Of the 4 x 4 kernel at "same" padding the inner 2 x 2 lies on the image.
    response = float(np.sum(convolution[1:3, 1:3, 0, 0] * [[1.0, 2.0], [3.0, 4.0]]))
    expected = max(response, 0.1 * response) * dense[0, 0] + bias[0]
    np.testing.assert_allclose(encoder(row)[0, 0], expected, rtol=1e-5)


def test_a_mask_lies_on_the_pixel_that_it_hides() -> None:
    backbone = make_backbone((2, 2, 2), channels=(1,))
    encoder = backbone.encoder(1, np.random.default_rng(0), planes=2)
    convolution, _, dense, bias = (weight.numpy() for weight in encoder.trainable_weights)
    assert convolution.shape == (4, 4, 4, 1)
    mask = np.zeros((1, 16), np.float32)
    mask[0, 8 + 5] = 1  # second plane: row 1, column 0, channel 1
    response = float(convolution[2, 1, 3, 0])
    expected = max(response, 0.1 * response) * dense[0, 0] + bias[0]
    np.testing.assert_allclose(encoder(mask)[0, 0], expected, rtol=1e-5)


def test_masks_hide_squares_of_pixels_with_all_their_channels() -> None:
    cells = make_backbone((6, 5, 2)).mask_cells.reshape(6, 5, 2)
    assert (cells[..., 0] == cells[..., 1]).all()
    np.testing.assert_array_equal(cells[:, :, 0], np.repeat(np.repeat([[0, 1], [2, 3]], 4, 0)[:6], 4, 1)[:, :5])
    detector = EfficientGAN(60, EfficientGANOptions(image_shape=(6, 5, 2), mask_rate=0.5, masks=4), seed=0)
    assert detector._masks is not None
    for mask in detector._masks:
        assert all(len(set(mask[cells.ravel() == cell])) == 1 for cell in range(4))


def test_the_pixels_of_a_channel_share_the_unit_of_their_residuals() -> None:
    X = make_images(200, (4, 4, 2)) * np.tile([1.0, 5.0], 16).astype(np.float32)
    detector = Autoencoder(32, AutoencoderOptions(image_shape=(4, 4, 2), score_units="training_rows"), seed=0)
    detector.calibrate(X)
    x_hat, _ = detector.explain(tf.constant(X))
    unit = detector.members[0].units.residual.numpy().reshape(16, 2)
    expected = np.sqrt(np.mean(np.square(X - x_hat).reshape(-1, 2), axis=0))
    np.testing.assert_allclose(unit, np.tile(expected, (16, 1)), rtol=1e-4)


def test_the_normalised_kernels_of_convolutions_have_norm_one_at_most() -> None:
    rng = np.random.default_rng(0)
    kernels = kernels_of(make_backbone((8, 8, 1)).discriminator(rng))
    assert [len(kernel.shape) for kernel in kernels] == [4, 4, 2, 2]
    for kernel in kernels:
        kernel.assign(5 * kernel)
    normalisation = SpectralNormalisation(kernels, rng)
    for _ in range(100):
        normalisation.project()
    for kernel in kernels:
        matrix = kernel.numpy().reshape(-1, kernel.shape[-1])
        assert np.linalg.norm(matrix, ord=2) == pytest.approx(1.0, abs=0.02)


def test_a_discriminator_sees_images_that_are_broken_in_squares() -> None:
    shape = (8, 8, 1)
    x = make_images(50, shape)
    detector = ALOCC(64, ALOCCOptions(image_shape=shape, steps=1), seed=0)
    is_foreign = (break_rows(detector, x) != x).reshape(50, 2, 4, 2, 4)
    squares = is_foreign.transpose(0, 1, 3, 2, 4).reshape(200, 16)
    assert (squares.all(axis=1) | ~squares.any(axis=1)).all()
    assert 0.1 < squares.all(axis=1).mean() < 0.5


def test_an_image_of_another_size_than_the_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_shape: 8 x 8 x 1 makes 64 values, but rows have 63"):
        Autoencoder(63, AutoencoderOptions(image_shape=(8, 8, 1)), seed=0)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 0), (8, 8, 1, 1), "8x8x1"])
def test_what_is_no_image_shape_is_refused(shape: object) -> None:
    with pytest.raises(ConfigError, match="image_shape"):
        AutoencoderOptions(image_shape=shape)


def test_images_have_defaults_of_their_own_that_can_be_changed() -> None:
    shape = (8, 8, 1)
    assert EfficientGANOptions().batch_size == 128
    assert EfficientGANOptions(image_shape=shape).batch_size == 64
    assert EfficientGANOptions(image_shape=shape, batch_size=32).batch_size == 32
    paper = EfficientGANOptions.preset("paper", image_shape=shape)
    assert (paper.batch_size, paper.epochs, paper.steps, paper.mask_rate) == (50, 100, None, 0.0)
    assert (EfficientGANOptions.preset("paper").scaling, paper.scaling) == ("none", "log_zscore")


def test_images_must_be_scaled_since_they_are_made_between_minus_one_and_one() -> None:
    with pytest.raises(ConfigError, match="scaling: images are made between -1 and 1"):
        AutoencoderOptions(image_shape=(8, 8, 1), scaling="none")


def test_rows_without_an_image_shape_have_dense_networks() -> None:
    backbone = choose_backbone(64, EfficientGANOptions())
    encoder = backbone.encoder(4, np.random.default_rng(0))
    assert [kernel.shape for kernel in kernels_of(encoder)] == [(64, 128), (128, 64), (64, 4)]


@pytest.mark.parametrize(("shape", "quarters"), [((4, 4, 2), (0, 0, 1, 2, 3)), ((3, 5, 1), (0, 0, 0, 2, 2))])
def test_images_are_turned_by_all_quarters_that_their_shape_allows(
    shape: tuple[int, int, int], quarters: tuple[int, ...]
) -> None:
    images = np.random.default_rng(0).normal(size=(len(quarters), *shape)).astype(np.float32)
    turned = ConvolutionalBackbone(shape, None).turn(tf.constant(images.reshape(len(quarters), -1)))
    wanted = [np.rot90(image, times) for image, times in zip(images, quarters, strict=True)]
    np.testing.assert_array_equal(turned, np.reshape(wanted, turned.shape))
