"""Where fine-scale data comes from: each source yields Snapshots and knows nothing of training."""
