"""Lightning callbacks: checkpoints, metrics, progress, throughput."""
