"""The filter as a part of other people's frameworks: one module each, which needs that framework and nothing else."""
