"""Attacks on the proof of learning, run against the real code: `mathesis lab attacks`."""
