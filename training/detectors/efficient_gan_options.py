"""The options of EfficientGAN and its two presets."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from monitor.errors import ConfigError
from training.detectors.options import DetectorOptions

Loss = Literal["cross_entropy", "cross_entropy_reconstruction", "feature_matching"]
Width = Annotated[int, Field(ge=1, le=65536)]
Rate = Annotated[float, Field(gt=0, le=1)]

# arXiv 1802.06222 and its authors' code: raw inputs, no consistency terms, constant rates, averaged weights. The
# published figures for KDD99 use this second term, where the text of the paper states -log D(x, E(x)).
_PAPER: dict[str, Any] = {
    "scaling": "none",
    "latent_dim": 32,
    "encoder_widths": (64,),
    "spectral_normalisation": False,
    "epochs": 100,
    "batch_size": 50,
    "sampling": "epochs",
    "learning_rate": 1e-5,
    "discriminator_learning_rate": 1e-5,
    "final_learning_rate": 1.0,
    "real_label": 1.0,
    "consistency_x": 0.0,
    "consistency_z": 0.0,
    "warm_up": 0.0,
    "moving_average": 0.9999,
    "moving_average_ramp": False,
    "loss": "cross_entropy_reconstruction",
    "score_units": "raw",
}


class EfficientGANOptions(DetectorOptions):
    """Everything that shapes an EfficientGAN; the values given here are those of the preset `default`."""

    # Networks
    latent_dim: Width | None = Field(
        default=None, description="length of z; chosen from the width of the data by default"
    )
    encoder_widths: tuple[Width, ...] = Field(default=(128, 64), description="hidden layers of E")
    generator_widths: tuple[Width, ...] = Field(default=(64, 128), description="hidden layers of G")
    discriminator_width: Width = Field(default=128, description="of all three hidden layers of D")
    dropout: float = Field(default=0.2, ge=0, le=0.9, description="in D, in training only")
    spectral_normalisation: bool = Field(default=True, description="keeps D 1-Lipschitz (at most)")

    # Training
    steps: int | None = Field(
        default=None, ge=1, description="training steps; chosen from the number of rows by default"
    )
    epochs: int | None = Field(default=None, ge=1, description="the same, in passes over the rows")
    batch_size: int = Field(default=128, ge=1, description="rows a step")
    sampling: Literal["distinct", "epochs"] = Field(
        default="distinct", description="distinct rows with weight √count, or passes over all rows"
    )
    learning_rate: Rate = Field(default=5e-4, description="of E and G")
    discriminator_learning_rate: Rate = Field(default=4e-4, description="of D")
    final_learning_rate: Rate = Field(
        default=0.1, description="share of the rates that is left at the end of the cosine"
    )
    real_label: Rate = Field(default=0.9, description="what D is told about (x, E(x))")
    consistency_x: float = Field(default=10.0, ge=0, description="coefficient of mean |x - G(E(x))|")
    consistency_z: float = Field(default=1.0, ge=0, description="coefficient of mean |z - E(G(z))|")
    warm_up: float = Field(
        default=0.1, ge=0, le=1, description="share of the steps until the adversarial term has full weight"
    )
    moving_average: float = Field(default=0.999, ge=0, lt=1, description="decay of the averaged weights that score")
    moving_average_ramp: bool = Field(default=True, description="a smaller decay in the first steps")

    # Score
    loss: Loss = Field(
        default="cross_entropy",
        description="second term: -log D(x, E(x)), -log D(G(E(x)), E(x)) or the distance of features",
    )
    weight: float = Field(default=0.9, ge=0, le=1, description="share of the reconstruction in the score")
    degree: int = Field(default=1, ge=1, le=8, description="norm of residuals and of feature distances")
    score_units: Literal["training_rows", "raw"] = Field(
        default="training_rows", description="what the terms are divided by"
    )

    @model_validator(mode="after")
    def _length_is_given_once(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other; give one of them")
        return self

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The options of the preset `default` (a recipe of our own) or `paper`, with some changed.

        Raises:
            ConfigError: an unknown preset or option, or a value out of range.
        """
        presets: dict[str, dict[str, Any]] = {"default": {}, "paper": _PAPER}
        if name not in presets:
            raise ConfigError("detector options", f"preset: expected one of {', '.join(presets)}, got {name!r}")
        length = {"epochs": None} if "steps" in changes else {}
        return cls(**{**presets[name], **length, **changes})
