"""What networks share: the small skeleton, and how official weights are loaded."""
