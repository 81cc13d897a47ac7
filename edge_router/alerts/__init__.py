"""Alerts: rules over the metrics, what became of them, and the notices about it. docs/alerts.md"""
