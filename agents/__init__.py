"""Whatever acts in the environment. Knows Gymnasium and torch; never imports al_gym."""
