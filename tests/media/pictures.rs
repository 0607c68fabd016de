//! Pictures read for conditioning and written for previews.
