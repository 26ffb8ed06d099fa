"""A classifier of background against simulated signals: the anomaly score is -ln P(background)."""

from torch import Tensor, nn
from torch.nn import functional

from training.detectors.layers import perceptron, softplus
from training.detectors.presets import TrainingConfig


class Classifier(nn.Module):
    """A binary classifier of background against a cocktail of simulated signals, which acts as a prior for anomalies.

    After Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure", arXiv:1812.04606.
    """

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__()
        self.layers = perceptron((len(names), *config.hidden, 1))

    def loss(self, values: Tensor, exposure: Tensor) -> Tensor:
        """Return the cross-entropy of background values (batch, k) and exposure (other, k), each of weight 1."""
        return functional.softplus(self._logit(values)).mean() + functional.softplus(-self._logit(exposure)).mean()

    def score(self, values: Tensor) -> Tensor:
        """Return -ln P(background) of each row of values (batch, k): (batch,)."""
        return softplus(self._logit(values))

    def _logit(self, values: Tensor) -> Tensor:
        logit: Tensor = self.layers(values).squeeze(1)
        return logit
