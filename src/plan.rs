//! What will happen, settled before a tensor exists.
