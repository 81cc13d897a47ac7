"""scripts/faults: what a caller sees of every fault, on every route, checked against the stream law."""
