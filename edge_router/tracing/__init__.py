"""Traces: W3C trace context, and spans of requests sent by OTLP. docs/telemetry.md"""
