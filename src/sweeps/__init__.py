"""Sweeps without a server: wandb's own format, searched by Optuna on this machine."""
