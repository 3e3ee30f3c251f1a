"""Label smoothing's module: what is asked of it, beside accuracy, is how sure the network is."""

import pytorch_lightning as L

from paperzoo.reliability import Reliability
from paperzoo.tasks.classification import ResidualClassifier


class SmoothedClassifier(ResidualClassifier):
    """A classifier whose record has the bins of its calibration error, with any loss, so that reports compare them."""

    def configure_callbacks(self) -> list[L.Callback]:
        """The reliability diagram, beside those of the layers."""
        if self._callbacks is None:
            self._callbacks = [*super().configure_callbacks(), Reliability(recorded=True)]
        return self._callbacks
