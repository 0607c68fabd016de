//! Files of weights, and what they hold.

mod foreign;
mod fuzzed;
mod keys;
mod packed;
mod pth;
