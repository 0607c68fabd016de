//! Films and pictures: the only files that mention FFmpeg.
