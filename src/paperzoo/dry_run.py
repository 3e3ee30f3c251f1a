"""``dry_run=true``: what each rank would do, without starting any. Imports no torch, and needs no GPU."""

from rich.console import Console
from rich.table import Table

from paperzoo import cards
from paperzoo.config.schema import Config

SHOWN = 16  # ranks; more are alike
PAPERS = "paperzoo.papers."
OF_LAYERS = {"SyncBatchNorm": "ranks", "InstanceNorm2d": "sample"}  # shared ones; a paper's card says it of its own


def show(config: Config) -> None:
    """Print a row per rank, the sizes that follow, and the commands that start it on other engines."""
    trainer, data = config.trainer, config.data
    ranks = trainer.devices * trainer.num_nodes
    console = Console(highlight=False)
    batch = f"{data.batch_size} on each of {ranks} rank{'s' * (ranks > 1)}"
    if trainer.accumulate_grad_batches > 1:
        batch += f", {trainer.accumulate_grad_batches} batches a step"
    console.print(f"{config.model.name} ({config.model.network}) on {data.name}, norm={config.norm.name}")
    console.print(f"samples a step: {data.batch_size * ranks * trainer.accumulate_grad_batches:,} ({batch})")
    console.print(f"learning rate: {config.optimizer.lr:g}, {config.scheduler.name}, {trainer.max_epochs} epochs")
    console.print(f"normalisation: {'over all ranks' if _synchronised(config) else 'of each rank by itself'}")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in ("rank", "node", "device", "backend", "random numbers", "writes"):
        table.add_column(column)
    for rank in range(min(ranks, SHOWN)):
        node, local = divmod(rank, trainer.devices)
        writes = "record, checkpoints, W&B" if rank == 0 else "nothing"
        drawn = f"seed {config.seed}, rank {rank}"
        table.add_row(str(rank), str(node), _device(config, local), trainer.backend or "none", drawn, writes)
    console.print(table)
    if ranks > SHOWN:
        console.print(f"... and {ranks - SHOWN} more ranks like these")
    if ranks > 1:
        nodes, each, words = trainer.num_nodes, trainer.devices, "src/train.py <the same words>"
        meet = "--rdzv-backend=c10d --rdzv-endpoint=<host>:29500"
        console.print("started by this command itself on one node; on several:")
        console.print(f"  torchrun --nnodes={nodes} --nproc-per-node={each} {meet} {words}", soft_wrap=True)
        console.print(f"  srun --nodes={nodes} --ntasks-per-node={each} python {words}", soft_wrap=True)


def _device(config: Config, local: int) -> str:
    if config.trainer.accelerator == "gpu":
        return f"cuda:{local}"
    return "cpu" if config.trainer.accelerator == "cpu" else "a GPU if there is one, else cpu"


def _synchronised(config: Config) -> bool:
    """Whether layers that average over a batch average over all ranks'."""
    over = _statistics(config)
    return over == "ranks" or (over == "batch" and config.trainer.sync_batchnorm)


def _statistics(config: Config) -> str:
    """What the network's normalisation averages over: as the norm's paper says, or the model's."""
    target = config.norm.target or f"{PAPERS}{config.model.name}"
    if not target.startswith(PAPERS):
        return OF_LAYERS.get(target.rpartition(".")[2], "batch")
    slug = target.split(".")[2]
    return cards.load(slug).statistics if slug in cards.slugs() else "batch"
