"""The other gateways, each installed into an environment of its own and set up as its documentation says."""
