//! A file of a hub repository as a path on this machine.
