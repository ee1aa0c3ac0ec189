//! Enumeration, finite differences and generators.
