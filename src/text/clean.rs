//! Cleaning of prompts, as the reference pipelines do it.
