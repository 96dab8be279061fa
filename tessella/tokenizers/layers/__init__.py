"""tokenizers/layers"""
