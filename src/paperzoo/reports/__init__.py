"""From run records to a published report: sources, statistics, figures, pages."""
