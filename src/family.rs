//! What a family of models implements.
