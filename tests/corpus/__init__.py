"""
Error texts that programs really gave, and what is to be said of them.
"""
