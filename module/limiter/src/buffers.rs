//! The buffers that a state holds on the heap, lent to code that measures or moves them.

use alloc::vec::Vec;

/// A function over the buffers of a state, which the state lends one by one.
pub trait BufferVisitor {
    /// Takes a buffer, and returns one with the same elements and the same capacity.
    fn visit<T>(&mut self, buffer: Vec<T>) -> Vec<T>;
}
