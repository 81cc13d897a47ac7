"""Training and evaluation of the semantic cache's pair verifier: scripts/train_semantic, scripts/eval_semantic."""
