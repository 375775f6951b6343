"""The options of EfficientGAN and its two presets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field

from training.detectors.options import (
    ADVERSARIAL_IMAGE_DEFAULTS,
    FEW_ROWS,
    MixedLossOptions,
    ScoreUnits,
    Share,
    Width,
)

Loss = Literal["cross_entropy", "cross_entropy_reconstruction", "feature_matching"]

# arXiv 1802.06222 and its authors' code: raw inputs, no consistency terms, constant rates, averaged weights. The
# published figures for KDD99 use this second term, where the text of the paper states -log D(x, E(x)).
_PAPER: dict[str, Any] = {
    "scaling": "none",
    "latent_dim": 32,
    "encoder_widths": (64,),
    "spectral_normalisation": False,
    "members": 1,
    "epochs": 100,
    "batch_size": 50,
    "sampling": "epochs",
    "learning_rate": 1e-5,
    "discriminator_learning_rate": 1e-5,
    "final_learning_rate": 1.0,
    "real_label": 1.0,
    "consistency_x": 0.0,
    "consistency_z": 0.0,
    "mask_rate": 0.0,
    "prototypes": 0,
    "discriminator_width": 128,
    "degree": 1,
    "warm_up": 0.0,
    "moving_average": 0.9999,
    "moving_average_ramp": False,
    "max_restarts": 0,
    "loss": "cross_entropy_reconstruction",
    "score_units": "raw",
}


class EfficientGANOptions(MixedLossOptions):
    """Everything that shapes an EfficientGAN; the values given here are those of the preset `default`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"default": {}, "paper": _PAPER})
    image_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            **ADVERSARIAL_IMAGE_DEFAULTS,
            "members": 1,
            "discriminator_width": 128,
            "degree": 2,
            "mask_rate": 0.6,
            "conditional": 0.0,
            "prototypes": 0,
        }
    )

    # Networks
    discriminator_width: Width = Field(default=64, description="of the hidden layers of D")

    # Training
    members: int | None = Field(
        default=None,
        ge=1,
        le=16,
        description="networks trained side by side, whose scores are averaged; by default one, and three where fewer than "
        f"{FEW_ROWS:,} rows train",
    )
    consistency_x: float = Field(default=10.0, ge=0, description="coefficient of mean |x - G(E(x))|")
    consistency_z: float = Field(default=1.0, ge=0, description="coefficient of mean |z - E(G(z))|")
    mask_rate: Share = Field(
        default=0.0,
        description="E sees rows with columns hidden, a share of up to this (drawn anew for each row), and their mask",
    )

    # Score
    loss: Loss = Field(
        default="cross_entropy",
        description="second term: -log D(x, E(x)), -log D(G(E(x)), E(x)) or the distance of features",
    )
    weight: Share = Field(default=0.9, description="share of the reconstruction in the score")
    degree: int = Field(default=1, ge=1, le=8, description="norm of residuals and of feature distances")
    conditional: Share = Field(
        default=1.0, description="with masking: share of the hidden columns' residual in the reconstruction term"
    )
    masks: int = Field(default=8, ge=2, le=64, description="with masking: fixed masks, one pass of E and G each")
    prototypes: int = Field(
        default=160,
        ge=0,
        le=4096,
        description="typical training rows, the nearest of which a row is compared with, too",
    )
    prototype_share: Share = Field(
        default=0.5,
        description="with prototypes: share of the distance from the nearest in the score",
    )
    score_units: ScoreUnits = Field(
        default="training_rows",
        description="rows on which the terms of the score are calibrated; raw leaves them as they are",
    )
