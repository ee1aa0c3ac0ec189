//! Burn operations and modules built on `marginals`.
