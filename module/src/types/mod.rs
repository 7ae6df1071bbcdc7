//! The native data types, one for each algorithm.

mod sliding_window_log;
mod token_bucket;
