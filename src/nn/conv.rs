//! Convolutions of two and three dimensions.
