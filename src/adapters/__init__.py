"""Adapters from the Workers runtime to the ports of `edge_router`: types in, errors in, types out."""
