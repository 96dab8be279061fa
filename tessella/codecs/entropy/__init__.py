"""codecs/entropy"""
