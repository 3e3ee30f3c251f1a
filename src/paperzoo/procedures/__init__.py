"""What a run does, stage by stage: ``fit`` is one training; search, pruning and ensembles are several stages."""

from paperzoo.procedures.stage import Loop, Procedure, Stage, Training

__all__ = ["Loop", "Procedure", "Stage", "Training"]
