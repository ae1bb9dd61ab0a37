"""What the commands that read run folders share: numbers, tables, figures and sentences.

Nothing here imports PyTorch, directly or through something else.
"""
