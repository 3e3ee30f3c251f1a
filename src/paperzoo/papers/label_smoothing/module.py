"""Label smoothing's module: what is asked of it, beside accuracy, is how sure the network is."""

import pytorch_lightning as L

from paperzoo.reliability import Reliability
from paperzoo.tasks.classification import ResidualClassifier


class SmoothedClassifier(ResidualClassifier):
    """A classifier whose record has the bins of its calibration error, with any loss, so that reports compare them."""

    def own_callbacks(self) -> list[L.Callback]:
        """The reliability diagram."""
        return [Reliability(recorded=True)]
