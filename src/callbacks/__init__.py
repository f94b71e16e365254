"""What happens beside the training: checkpoints, metrics, progress, throughput."""
