//! Files of weights, and what they hold.

mod foreign;
mod keys;
mod packed;
mod pth;
