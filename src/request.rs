//! What the user asked for: plain data.
