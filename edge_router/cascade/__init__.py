"""The edge model answers first, and a stronger one only when that answer shows that it must."""
