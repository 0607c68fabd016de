//! What is settled before a tensor exists.

mod few_steps;
