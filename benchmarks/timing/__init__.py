"""Times: contestants in turns, the loops of others, the paper's runs."""
