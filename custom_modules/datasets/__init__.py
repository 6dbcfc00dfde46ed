"""The prepared dataset: split, checks, and the registered FlowerDataset."""
