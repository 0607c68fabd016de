//! UMT5, the text encoder of the Wan models.
