//! Guidance: how several predictions of the transformer become one.
