"""Train a paper's model: python src/train.py model=scnet [group=option ...] [key=value ...]."""

from typing import TYPE_CHECKING

from paperzoo.config import program

if TYPE_CHECKING:
    from paperzoo.config.schema import Config


@program("train")
def main(config: "Config") -> None:
    """Train as configured."""
    if config.dry_run:
        from paperzoo.dry_run import show

        show(config)
        return
    from paperzoo.training import train

    train(config)


if __name__ == "__main__":
    main()
