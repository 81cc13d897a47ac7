"""Training and evaluation of the learned router: scripts/train_router, scripts/eval_router."""
