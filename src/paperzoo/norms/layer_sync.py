"""``trainer.sync_batchnorm=true``: Lightning's hook that makes a model's batch normalisation one over all ranks."""

from pytorch_lightning.plugins import LayerSync
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from paperzoo.norms.convert import convert
from paperzoo.norms.layers import Normalisation
from paperzoo.norms.sync import SyncBatchNorm


class SyncNorms(LayerSync):
    """Synchronise every layer with batch statistics, whatever the device and the backend.

    BatchNorm layers become ``SyncBatchNorm`` in place; a paper's own layer that can be synchronised says so by an
    attribute ``synchronise`` (Switchable Norm).
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Called by Lightning before the model is wrapped."""
        for module in model.modules():
            if isinstance(module, Normalisation) and hasattr(module, "synchronise"):
                setattr(module, "synchronise", True)  # noqa: B010 - a module's attributes are not typed
        if any(isinstance(m, _BatchNorm) and not isinstance(m, SyncBatchNorm) for m in model.modules()):
            convert(model, SyncBatchNorm, only=_BatchNorm)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Layers stay: on one rank they are plain batch normalisation."""
        return model
