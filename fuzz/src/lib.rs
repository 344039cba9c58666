//! What the fuzz targets have in common: an input that says itself how its bytes arrive, and a count of what is kept.
//!
//! An input begins with a byte whose low half is a number of sizes, then come the sizes (one byte each, of pieces of 1 to 256
//! bytes, used again and again), then the bytes that a client or server sends.

pub mod kept;

/// Bytes, and the pieces in which they arrive.
#[derive(Debug, Clone, Copy)]
pub struct Input<'d> {
    /// A byte for the target to choose a mode by.
    pub mode: u8,
    /// What is sent.
    pub bytes: &'d [u8],
    sizes: &'d [u8],
}

impl<'d> Input<'d> {
    /// Takes an input of the fuzzer apart; `None` when it is too short to be one.
    pub fn read(data: &'d [u8]) -> Option<Self> {
        let (&first, rest) = data.split_first()?;
        let (sizes, bytes) = rest.split_at_checked(usize::from(first & 0xF))?;
        Some(Self { mode: first >> 4, bytes, sizes })
    }

    /// The sizes of the pieces, without end; single bytes if the input names none.
    pub fn sizes(&self) -> impl Iterator<Item = usize> + 'd {
        let sizes = if self.sizes.is_empty() { &[0] } else { self.sizes };
        sizes.iter().cycle().map(|size| usize::from(*size) + 1)
    }

    /// All the bytes, cut.
    pub fn pieces(&self) -> impl Iterator<Item = &'d [u8]> {
        let mut left = self.bytes;
        self.sizes().map_while(move |size| {
            let (piece, rest) = left.split_at(size.min(left.len()));
            left = rest;
            (!piece.is_empty()).then_some(piece)
        })
    }
}
