"""The annotator's page with programs in place of people: real processes, a real browser."""
