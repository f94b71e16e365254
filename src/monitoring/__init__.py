"""Monitor during adaptation whether it helps or breaks the features."""
