"""The share of predictions that are right."""

from __future__ import annotations

from typing import Optional

import numpy as np

from lingvo_lite.metrics import mean


class Accuracy(mean.Mean):
    """sum_i(weight_i * [prediction_i = label_i]) / sum_i(weight_i)."""

    larger_is_better = True

    def __init__(self, name: str = 'accuracy'):
        super().__init__(name)

    def Update(  # type: ignore[override]  # It takes what a Mean is to be made of.
        self, predictions: np.ndarray, labels: np.ndarray, weights: Optional[np.ndarray] = None
    ) -> None:
        """Compares element by element.

        Args:
          predictions: any shape and type that compares with ==.
          labels: of the same shape.
          weights: of the same shape, at least 0; 0 on padding. None: all 1.

        Raises:
          ValueError: if the shapes differ or a weight is negative or not finite.
        """
        predictions, labels = np.asarray(predictions), np.asarray(labels)
        weights = np.ones(labels.shape) if weights is None else np.asarray(weights, np.float64)
        if not predictions.shape == labels.shape == weights.shape:
            raise ValueError(
                f'{self.name}: predictions {list(predictions.shape)}, labels {list(labels.shape)} '
                f'and weights {list(weights.shape)} must have one shape.'
            )
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(f'{self.name}: weights must be finite and at least 0.')
        total = weights.sum()
        if total:
            super().Update((weights * (predictions == labels)).sum() / total, total)
