"""What modules share: one file per task."""
