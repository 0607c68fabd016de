//! `.pth` files of `torch.save`: a ZIP archive of a pickle, which names the tensors, and their bytes.
//!
//! The pickle is read as a list of names, shapes and offsets. None of its code is ever called.

mod global;
mod instruction;
mod pickle;
mod zip;

use std::collections::btree_map::Entry;

use super::stored::{Kind, Stored, Table, countable};
use crate::error::{Context, Error, Result};
use pickle::{Pickle, Tensor};
use zip::Archive;

/// Most bytes of a pickle, and of the directory of an archive. Real ones have some 200 bytes per tensor.
const MAX_HEADER: usize = 16 << 20;

/// The hint for a file that only its authors' code can read.
const TAKE_SAFETENSORS: &str = "take the same weights as safetensors, or save them from Python as a dict of tensors";

/// Parses a whole `.pth` file: the tensors of the saved dict, or of one within it called `state_dict`,
/// `model`, `module` or `params`. Other values are skipped.
///
/// # Errors
/// A damaged file, or one that is not a plain dict of contiguous tensors. At most some forty bytes are
/// allocated per byte of the pickle and of the archive's directory, of at most 16 MiB each.
pub fn parse(bytes: &[u8]) -> Result<Table> {
    let archive = Archive::open(bytes)?;
    if archive.data("byteorder").is_some_and(|(begin, end)| bytes[begin..end] != *b"little") {
        return Err(Error::failed("its numbers are not in little-endian order").hint(TAKE_SAFETENSORS));
    }
    let (begin, end) = archive.data("data.pkl").ok_or_else(|| {
        Error::failed("it is a ZIP archive without `data.pkl`, so not one of `torch.save`").hint(TAKE_SAFETENSORS)
    })?;
    if end - begin > MAX_HEADER {
        return Err(Error::failed("no dict of tensors has a pickle as long as its own").hint(TAKE_SAFETENSORS));
    }
    let pickle = Pickle::read(&bytes[begin..end])?;
    let mut table = Table::default();
    for (name, tensor) in pickle.tensors()? {
        let stored = tensor.and_then(|tensor| place(&archive, tensor)).context(|| format!("cannot read `{name}`"))?;
        match table.tensors.entry(name.to_owned()) {
            Entry::Vacant(place) => place.insert(stored),
            Entry::Occupied(_) => return Err(twice("tensors", name)),
        };
    }
    Ok(table)
}

/// The error of a duplicate name.
fn twice(what: &str, name: &str) -> Error {
    Error::failed(format!("it holds two {what} called `{name}`"))
        .hint("fetch the file again, or take it from its authors")
}

/// Finds the bytes of a tensor.
fn place(archive: &Archive, tensor: Tensor) -> Result<Stored> {
    let Tensor { dtype, storage, offset, shape, strides } = tensor;
    let kind = Kind::Plain(dtype);
    let bytes = kind.bytes(&shape).filter(|_| countable(&shape));
    let bytes = bytes.ok_or_else(|| Error::failed(format!("its shape is impossible: {shape:?}")))?;
    if !contiguous(&shape, &strides) {
        return Err(Error::failed(format!(
            "its numbers are not in a row: a shape of {shape:?}, strides of {strides:?}"
        ))
        .hint("save the weights again with `.contiguous()` of each tensor, or take them as safetensors"));
    }
    let (begin, end) =
        archive.data(&format!("data/{storage}")).ok_or_else(|| Error::failed("its bytes are not there"))?;
    let first = kind.bytes(&[offset]).and_then(|skipped| begin.checked_add(skipped));
    let range = first.and_then(|first| Some((first, first.checked_add(bytes).filter(|&last| last <= end)?)));
    let range =
        range.ok_or_else(|| Error::failed(format!("it goes beyond the {} bytes that it lies in", end - begin)))?;
    Ok(Stored { kind, shape, range })
}

/// Whether the elements are contiguous, row-major. A single element needs no stride.
fn contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut step = 1;
    let mut in_a_row = |(&dim, &stride): (&usize, &usize)| {
        let fits = dim == 1 || stride == step;
        step *= dim;
        fits
    };
    shape.len() == strides.len() && (shape.contains(&0) || shape.iter().zip(strides).rev().all(&mut in_a_row))
}

/// A cursor over bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(Self::short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(Self::short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn short() -> Error {
        Error::failed("a part of it is missing")
    }
}
