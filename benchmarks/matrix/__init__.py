"""What the commands that run and read experiments share: the folder of a cell, and its methods."""
