//! When to try again, and when to stop: pure rules.
