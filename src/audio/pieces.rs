//! Long signals in pieces. Each piece includes the neighbours in its receptive field, so that results are the
//! same.

use std::ops::Range;

/// One piece of a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The input range: the piece and its neighbours.
    pub take: Range<usize>,
    /// The output range, in the same unit: the piece itself.
    pub keep: Range<usize>,
}

impl Piece {
    /// Outputs to skip before `keep`.
    pub fn skip(&self) -> usize {
        self.keep.start - self.take.start
    }
}

/// Pieces of `size` (at least 1) of a signal of `length`, in order, with up to `before` and `after` neighbours.
pub fn pieces(length: usize, size: usize, (before, after): (usize, usize)) -> impl Iterator<Item = Piece> {
    let size = size.max(1);
    (0..length).step_by(size).map(move |start| {
        let end = start.saturating_add(size).min(length);
        let take = start.saturating_sub(before)..end.saturating_add(after).min(length);
        Piece { take, keep: start..end }
    })
}
