"""Sweeps in wandb's format, run locally by Optuna without a server."""
