"""A discrete-event model of Nearside at internet scale: docs/simulation.md"""
