"""Fits the token estimate against a real tokenizer: python -m scripts.token_calibration --help"""
