//! The pipeline: a request in, a film out.
