"""tokenizers/quantizers"""
