"""Checkpoints, exported models, pretrained weights and the linear probe."""
