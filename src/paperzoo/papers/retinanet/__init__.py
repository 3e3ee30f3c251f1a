"""RetinaNet: Focal Loss for Dense Object Detection (Lin et al., ICCV 2017); the loss itself is in ``focal_loss``."""

from paperzoo.detection.official import load_torchvision as load_official
from paperzoo.papers.retinanet.network import RetinaNet, build

__all__ = ["RetinaNet", "build", "load_official"]
