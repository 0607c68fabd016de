//! What the families' video autoencoders share: tiles and their blending.
