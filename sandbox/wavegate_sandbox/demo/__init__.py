"""The demo: a good release on a fleet of 40 machines, then a bad one that takes machines down."""
