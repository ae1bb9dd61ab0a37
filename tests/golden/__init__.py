"""Golden curves: what the program of commit 9ab7c62 did, recorded before it was rebuilt."""
