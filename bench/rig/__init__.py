"""The measuring rig behind `bench/run`: what is started, what loads it and what is read off.

Standard library only, so that a machine with a bare Python 3.11 can measure. Nothing in here knows how
keymux works inside; it is one more proxy beside nginx and haproxy and is measured from the outside.
"""
